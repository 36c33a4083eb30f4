"""Words that the sentences of a verdict share."""

import math
from collections.abc import Iterable

from mtlcluster.collect.verdict.result import MethodResult, Verdict

NAMED = 6  # names in a sentence


def names(found: Iterable[str]) -> str:
    """Such as "a, b and c", at most NAMED of them."""
    every = list(found)
    if len(every) > NAMED:
        return f"{', '.join(every[:NAMED])} and {len(every) - NAMED} more"
    return " and ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def counted(number: float, what: str) -> str:
    """Such as "1 seed", "3 seeds" or "0.5 points"."""
    return f"{int(number) if number == int(number) else number:,} {what}{'' if number == 1 else 's'}"


def compared_methods(verdict: Verdict) -> list[MethodResult]:
    """The rows that take part in the comparison."""
    return [m for m in verdict.methods if not m.single and not m.missing and math.isfinite(m.z)]


def number(value: float) -> str:
    """With one decimal, or two digits of a small one."""
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"
