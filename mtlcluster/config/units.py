"""Durations, sizes and types of GPU as people and Slurm write them."""

import math
import operator
import re
from typing import Annotated, Any

import pydantic

from mtlcluster.errors import shown

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
CLOCK = re.compile(r"(?:([0-9]{1,9})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?")
LONGEST = 10_000 * 86400  # seconds


def seconds(value: Any) -> float:
    """Converts a duration to seconds.

    Args:
        value: '90s', '1h30m', '2d', or Slurm's 'M', 'M:S', 'H:M:S', 'D-H', 'D-H:M', 'D-H:M:S'.

    Raises:
        ValueError: It is no duration, or one that Slurm misreads: zero is no limit there, and a very long one another
            time.
    """
    text = str(value).strip()
    if parts := CLOCK.fullmatch(text):
        days, *rest = parts.groups()
        numbers = [int(number) for number in rest if number]
        # After days come hours. Without days one number is minutes, and two are minutes and seconds.
        units = (3600, 60, 1) if days or len(numbers) == 3 else (60, 1)
        found = float(int(days or 0) * 86400 + sum(map(operator.mul, numbers, units)))
    elif re.fullmatch(r"(?:[0-9]{1,9}(?:\.[0-9]+)?[smhd])+", text):
        found = sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)([smhd])", text))
    else:
        raise ValueError(f"should be a duration such as 90s, 1h30m, 01:30:00 or 1-12:00, found {shown(value)}")
    if not 0 < found <= LONGEST:
        raise ValueError(f"should be longer than zero and at most {LONGEST // 86400:,} days, found {shown(value)}")
    return found


def memory_bytes(value: Any) -> int:
    """Converts '500M' or '2G' to bytes. As for Slurm, units are powers of 1024, and a number alone is megabytes."""
    parts = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)(?:([KMGT])(?:i?B)?)?", str(value).strip(), re.IGNORECASE)
    if not parts or isinstance(value, float):
        raise ValueError(f"should be a size such as 500M or 2G, found {shown(value)}")
    if not (found := math.ceil(float(parts[1]) * BYTES[(parts[2] or "M").upper()])):
        raise ValueError(
            f"should be more than zero (for Slurm, zero is all the memory of a node), found {shown(value)}"
        )
    return found


def gpu_type(value: Any) -> None:
    """Accepts types such as a100, nvidia_a100_80gb, 3g.20gb, and 4090, a number for YAML. Raises ValueError."""
    if type(value) not in (str, int) or not re.fullmatch(r"[\w.+-]+", str(value)):
        raise ValueError(f"should be a type of GPU such as a100, found {shown(value)}")


def one_line(value: str) -> str:
    """Accepts text that fits in one line of a batch script or a command. Raises ValueError."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", value):
        raise ValueError(f"should be a single line, found {shown(value)}")
    return value


def _checked_by(parse: Any) -> Any:
    def check(value: Any) -> str:
        parse(value)
        return str(value)

    return pydantic.BeforeValidator(check)


Line = Annotated[str, pydantic.AfterValidator(one_line)]
Duration = Annotated[str, _checked_by(seconds)]
Size = Annotated[str, _checked_by(memory_bytes)]
GpuType = Annotated[str, _checked_by(gpu_type)]
