"""Asynchronous successive halving: which trials stop early. The decisions, as pure functions.

A rung is a share of a run's training. At the first validation at or after it, a trial compares its best value so far
with those that the other trials of its method and tuning seed had there. It stops if it is not among the best. Nobody
waits for anybody: a trial is compared with those that have come so far.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2; here a trial that is
stopped is not taken up again by itself.

In status.json each rung that a run has reached stands in `rungs`:

    {"at": 0.1, "epoch": 2, "step": 40, "value": 0.53, "seen": {"3f9a1c5e20": 0.51, …}, "kept": true}

`seen` are the values of the others, by the identity of the run. `kept` says whether the run goes on. Both are missing
while the run has not decided. A rung at which it was pruned gets `"taken_up": true` when a user retries the pruned run.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ROUNDING = 1e-9


def due(at: Iterable[float], rungs: Sequence[Mapping[str, Any]], step: int, steps: int) -> list[float]:
    """The rungs that a run has reached and not noted yet.

    Args:
        at: The rungs, as shares of the training.
        rungs: What its status.json says of the rungs before. After it was pruned once, none is due any more: whoever
            takes up such a run again wants to see its end.
        step: Its finished steps at its last validation.
        steps: The number of steps of the whole training.
    """
    if step >= steps or any(rung.get("kept") is False for rung in rungs):
        return []
    noted = {rung["at"] for rung in rungs}
    return [share for share in sorted(at) if share not in noted and step >= (share - ROUNDING) * steps]


def is_stopped(rungs: Iterable[Mapping[str, Any]]) -> bool:
    """True if a run was pruned, and nobody has taken it up again."""
    return any(rung.get("kept") is False and not rung.get("taken_up") for rung in rungs)


def take_up(rungs: Iterable[dict[str, Any]]) -> None:
    """Lets a pruned run go on to its end."""
    for rung in rungs:
        if rung.get("kept") is False:
            rung["taken_up"] = True


def is_kept(value: float, others: Iterable[float], keep: float, direction: str) -> bool:
    """True if a trial goes on: too few have come to the rung, or it is among the best ⌈keep · n⌉ of the n there.

    Args:
        value: The best value of the trial so far.
        others: Those of the other trials at this rung. With `value` they are n.
        keep: The share that goes on.
        direction: The better direction of the value: "min" or "max".
    """
    numbers, sign = list(others), 1 if direction == "min" else -1
    count = len(numbers) + 1
    better = sum(sign * number < sign * value for number in numbers)
    return count < 1 / keep - ROUNDING or better < math.ceil(keep * count - ROUNDING)


def is_rung(entry: Any) -> bool:
    """True if an entry of `rungs` is what a worker writes, so that it can be used without further checks."""
    if not isinstance(entry, dict) or type(entry.get("kept", True)) is not bool:
        return False
    return all(isinstance(n, int | float) and math.isfinite(n) for n in (entry.get("at"), entry.get("value")))
