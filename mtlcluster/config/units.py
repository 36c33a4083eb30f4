"""Durations, sizes and types of GPU as people and Slurm write them."""

import re
from typing import Annotated, Any

import pydantic

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def seconds(value: Any) -> float:
    """'90s', '10m', '1h30m', '2d', or Slurm's 'MM:SS', 'HH:MM:SS', 'D-HH:MM:SS', in seconds."""
    text = str(value).strip()
    if parts := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text):
        days, hours, minutes, rest = (int(part or 0) for part in parts.groups())
        return float(days * 86400 + hours * 3600 + minutes * 60 + rest)
    if re.fullmatch(r"(?:\d+(?:\.\d+)?[smhd])+", text):
        return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
    raise ValueError(f"should be a duration such as 90s, 30m, 1h30m or 01:30:00, found {value!r}")


def memory_bytes(value: Any) -> int:
    """'500M' or '2G' in bytes, in powers of 1024 as Slurm counts."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])i?B?", str(value).strip(), re.IGNORECASE)
    if not parts:
        raise ValueError(f"should be a size such as 500M or 2G, found {value!r}")
    return int(float(parts[1]) * BYTES[parts[2].upper()])


def gpu_type(value: Any) -> None:
    """'a100', 'nvidia_a100_80gb', '3g.20gb'; and 4090, which YAML reads as a number. Nothing else that gres has."""
    if type(value) not in (str, int) or not re.fullmatch(r"[\w.+-]+", str(value)):
        raise ValueError(f"should be a type of GPU such as a100, found {value!r}")


def _checked_by(parse: Any) -> Any:
    def check(value: Any) -> str:
        parse(value)
        return str(value)

    return pydantic.BeforeValidator(check)


Duration = Annotated[str, _checked_by(seconds)]
Size = Annotated[str, _checked_by(memory_bytes)]
GpuType = Annotated[str, _checked_by(gpu_type)]
