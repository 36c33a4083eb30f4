"""Pruning finds settings as good as the best ones in half of the steps: full-length searches, pruned afterwards.

make_curves.py trained every setting to its end. Here searches of twelve of them are pruned as their workers would,
two trials at a time.
"""

import heapq
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from mtlcluster.config.search_keys import Prune
from mtlcluster.sweep.pruning import due, is_kept

RUNS = [json.loads(line) for line in Path(__file__).with_name("curves.json").read_text().splitlines()]
WHOLE = max(len(run["best"]) for run in RUNS)  # validations; a run with fewer has failed
SEARCHES, TRIALS, AT_ONCE = 300, 12, 2


def pruned(search: list[list[float]], at: list[float], keep: float, rng: np.random.Generator) -> tuple[float, float]:
    """Prunes a search: a slot that gets free takes the next trial, and no two trials train equally fast.

    Returns:
        The final value of the trial that is chosen, and the share of the steps that the search took.
    """
    taken: list[int] = [0] * len(search)  # validations
    rungs: list[list[dict[str, Any]]] = [[] for _ in search]
    seconds = rng.uniform(0.8, 1.2, len(search))  # from one validation to the next
    waiting = list(range(len(search)))
    slots = [(seconds[trial], trial) for trial in (waiting.pop(0) for _ in range(AT_ONCE))]
    heapq.heapify(slots)
    done = []
    while slots:
        now, trial = heapq.heappop(slots)
        curve = search[trial]
        taken[trial] += 1
        value, goes_on = curve[taken[trial] - 1], taken[trial] < len(curve)
        for share in due(at, rungs[trial], taken[trial], WHOLE):
            seen = [rung["value"] for other in rungs for rung in other if rung["at"] == share]
            kept = is_kept(value, seen, keep, "min")
            rungs[trial].append({"at": share, "value": value, "kept": kept})
            goes_on = goes_on and kept
        if taken[trial] == WHOLE:
            done.append(value)
        if goes_on:
            heapq.heappush(slots, (now + seconds[trial], trial))
        elif waiting:
            heapq.heappush(slots, (now + seconds[waiting[0]], waiting.pop(0)))
    return min(done, default=math.inf), sum(taken) / sum(map(len, search))


def of_method(problem: str, method: str) -> list[dict[str, Any]]:
    return [run for run in RUNS if (run["problem"], run["method"]) == (problem, method) and run["best"]]


def seed_sd(runs: list[dict[str, Any]]) -> float:
    """The standard deviation between the seeds of one setting, over the settings that have several."""
    settings = {run["setting"] for run in runs if run["seed"]}
    finals = [[run["best"][-1] for run in runs if run["setting"] == s and len(run["best"]) == WHOLE] for s in settings]
    return math.sqrt(np.mean([np.var(values, ddof=1) for values in finals]))


def replayed(problem: str, at: list[float], keep: float) -> tuple[float, float]:
    """The share of the searches whose choice is as good as the best, and the median share of the steps."""
    rng = np.random.default_rng(0)
    methods = sorted({run["method"] for run in RUNS if run["problem"] == problem})
    good, shares = 0, []
    for number in range(SEARCHES):
        runs = of_method(problem, methods[number % len(methods)])
        curves = [run["best"] for run in runs if run["seed"] == 0]
        search = [curves[i] for i in rng.choice(len(curves), TRIALS, replace=False)]
        best = min(curve[-1] for curve in search if len(curve) == WHOLE)
        chosen, share = pruned(search, at, keep, rng)
        good += chosen <= best + seed_sd(runs)
        shares.append(share)
    return good / SEARCHES, median(shares)


@pytest.mark.parametrize("problem", ["digits", "toy"])
def test_a_pruned_search_finds_a_setting_as_good_in_half_of_the_steps(problem):
    prune = Prune()
    good, share = replayed(problem, prune.at, prune.keep)
    print(f"{problem}: {good:.0%} of the searches within one seed standard deviation, {share:.0%} of the steps")
    assert good >= 0.9
    assert share <= 0.5
