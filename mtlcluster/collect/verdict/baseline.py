"""The ONE baseline of each task that every other value of the task is relative to."""

import math
from collections.abc import Iterable, Mapping, Sequence

from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.statistics import spread
from mtlcluster.collect.verdict.result import Baseline
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.collect.verdict.scores import Scale
from mtlcluster.sweep import series
from mtlcluster.sweep.names import hash_of

SINGLE_TASK, PLAIN_SUM = "single-task training", "the plain sum"
Leading = Mapping[str, Mapping[str, str]]  # the better direction of the leading metrics, by task


def best_row(rows: Iterable[Row], direction: str = "") -> Row | None:
    """The row with the best validation value; the first one where there is none. Only rows with finished runs.

    Args:
        rows: The rows.
        direction: The better direction; "": as the runs say.
    """

    def place(row: Row) -> float:
        best = next(iter(row.runs.values())).best
        way = direction or (best["direction"] if best else "min")
        return math.inf if row.value is None or math.isnan(row.value) else row.value * (-1 if way == "max" else 1)

    return min((row for row in rows if row.runs), key=place, default=None)


def baseline_rows(rows: Sequence[Row], tasks: Iterable[str]) -> tuple[str, dict[str, Row]]:
    """The row of each task's baseline, and what these are: single-task training, or else the plain sum.

    Of several settings of single-task training, each task has the one with the best validation value.

    Returns:
        "single-task training" or "the plain sum", and the rows by task; "" and no rows where both are missing.
    """
    tasks = list(tasks)
    singles = {task: best_row(row for row in rows if row.single_task == task) for task in tasks}
    found = {task: row for task, row in singles.items() if row}
    if tasks and len(found) == len(tasks):
        return SINGLE_TASK, found
    plain = best_row(row for row in rows if row.plain_sum)
    return (PLAIN_SUM, dict.fromkeys(tasks, plain)) if plain else ("", {})


def baselines(of: Mapping[str, Row], leading: Leading, data: str) -> dict[str, Baseline]:
    """The baselines: mean and standard deviation over the runs that count of each row.

    Args:
        of: The row of each task.
        leading: The leading metrics.
        data: "validation" or "test".
    """
    found = {}
    for task, row in of.items():
        runs = list(row.runs.values())
        spreads = {metric: spread(_numbers(runs, data, task, metric)) for metric in leading[task]}
        mean, sd = ({name: getattr(one, part) for name, one in spreads.items()} for part in ("mean", "std"))
        found[task] = Baseline([hash_of(run.name) for run in runs], mean, sd)
    return found


def make_scale(of: Mapping[str, Baseline], leading: Leading, data: str, runs: Iterable[FinishedRun]) -> Scale | None:
    """The scale of one kind of data. None where a baseline has no finite value.

    Args:
        of: The baseline of each task.
        leading: The leading metrics.
        data: "validation" or "test".
        runs: All runs: a metric that is negative in one of them can be negative.
    """
    means = [number for one in of.values() for number in one.mean.values()]
    if not means or not all(map(math.isfinite, means)):
        return None
    keys = {series.evaluated(data, metric, task): (task, metric) for task in leading for metric in leading[task]}
    negative = {place for run in runs for key, place in keys.items() if run.values.get(key, 0.0) < 0}
    directions = {task: dict(metrics) for task, metrics in leading.items()}
    return Scale(data, directions, {task: dict(one.mean) for task, one in of.items()}, negative)


def _numbers(runs: Iterable[FinishedRun], data: str, task: str, metric: str) -> list[float]:
    return [run.values.get(series.evaluated(data, metric, task), math.nan) for run in runs]
