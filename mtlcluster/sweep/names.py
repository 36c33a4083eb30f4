"""The names that sweeps, runs, code and jobs may have.

Names may come from anybody. One that fits leads out of no folder, and is no option of a command.
"""

import re
from collections.abc import Iterable

SWEEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # also code/<hash>, a submission's id, a cluster
RUN = re.compile(r"[A-Za-z0-9_=+,()][A-Za-z0-9._=+,()-]{0,149}")
JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:;+-]{0,299}")  # 123_4, local:<host>:<process>:<start time>
HASH = re.compile(r"[0-9a-f]{10}")  # a run's identity
HASHED = re.compile(r"(.*-)?[0-9a-f]{10}")  # a run's name, as grids make it: it ends with the run's identity
# A confirming run whose setting is not chosen yet, see choices.py.
PLACEHOLDER = re.compile(r"(?P<method>.+)-choice=(?P<number>\d{1,6})-seed=(?P<seed>\d{1,19})")
COPY = re.compile(r"(^|-)[0-9a-f]{10}[^0-9a-f]")  # of a copied folder, such as …-3f9a1c5e20.bak


def fits(pattern: re.Pattern[str], name: object) -> bool:
    """True if `name` is a text that the whole pattern matches."""
    return isinstance(name, str) and pattern.fullmatch(name) is not None


def meant_by(text: str, names: Iterable[str]) -> list[str]:
    """The names that a user means by `text`: the equal one, else those equal without the hash, else those that contain
    it.
    """
    names = list(names)
    without_hash = [name for name in names if name.rpartition("-")[0] == text]
    return [text] if text in names else without_hash or [name for name in names if text in name]


def hash_of(name: str) -> str:
    """The identity of a run: the end of its folder's name. A run that waits for a choice has its name alone."""
    return name if fits(PLACEHOLDER, name) else name.rpartition("-")[2]


def natural(name: str) -> list[str | int]:
    """A sort key that compares the numbers in names as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
