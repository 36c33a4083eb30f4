"""What a row of the main table has by itself: its values, its budget."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mtlcluster.collect.inference.expected_best import expected_best
from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.settings import SINGLE
from mtlcluster.collect.statistics import spread
from mtlcluster.collect.verdict.comparable import z_by_seed
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.result import MethodResult
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.sweep import series


def of_method(contest: Contest, row: Row) -> MethodResult:
    """A method's own values and its budget, without any comparison."""
    scale, runs = contest.scales[contest.data], dict(sorted(row.runs.items()))
    z = z_by_seed(scale, row) if scale else {}
    tasks = {seed: scale.task_values(run.values) for seed, run in runs.items()} if scale else {}
    by_task = {
        task: {seed: values[task] for seed, values in tasks.items() if math.isfinite(values[task])}
        for task in contest.leading
    }
    result = MethodResult(
        name=row.name,
        chosen=row.trial,
        values=row.values,
        n=len(z) if scale else len(runs),
        z=_mean(z.values()),
        z_by_seed=z,
        per_task={task: _mean(values.values()) for task, values in by_task.items() if values},
        per_task_by_seed={task: values for task, values in by_task.items() if values},
        leading=_leading(contest, runs.values(), contest.leading),
        missing=row.missing,
        expected_best=_expected_best(contest, row),
    )
    return _budget(result, [row])


def of_single_tasks(contest: Contest) -> list[MethodResult]:
    """Single-task training as one row: each task's values come from its own baseline."""
    scale = contest.scales[contest.data]
    singles = [row for row in contest.rows.rows if row.single]
    chosen = {t: row for t, row in contest.baseline_rows.items() if row.single}
    if not chosen:
        return []
    by_task: dict[str, dict[int, float]] = {}
    leading: dict[str, tuple[float, float]] = {}
    for task, row in chosen.items():
        if scale:
            found = {seed: scale.task_values(run.values)[task] for seed, run in sorted(row.runs.items())}
            by_task[task] = {seed: value for seed, value in found.items() if math.isfinite(value)}
        leading |= _leading(contest, row.runs.values(), [task])
    seeds = sorted(set.intersection(*({*values} for values in by_task.values()))) if by_task else []
    z = {seed: _mean(values[seed] for values in by_task.values()) for seed in seeds}
    result = MethodResult(
        name=SINGLE,
        single=True,
        values={f"{task}: {key}": value for task, row in chosen.items() for key, value in row.values.items()},
        n=len(z),
        z=_mean(z.values()),
        z_by_seed=z,
        per_task={task: _mean(values.values()) for task, values in by_task.items() if values},
        per_task_by_seed=by_task,
        leading=leading,
        missing="; ".join(f"{task}: {row.missing}" for task, row in chosen.items() if row.missing),
    )
    return [_budget(result, singles)]


def _budget(result: MethodResult, rows: Sequence[Row]) -> MethodResult:
    """The row with what its trials and its runs that count have really spent."""
    spent = [run for row in rows for run in row.spent]
    states = [run.state for run in spent if not isinstance(run, FinishedRun)]
    return replace(
        result,
        trials=sum(max(1, len(row.tried)) for row in rows),
        seeds=max(row.tuning_seeds for row in rows),
        backwards=sum(_backwards(run.spent.backwards, run.spent.steps) for run in spent),
        seconds=sum(run.spent.seconds for run in spent),
        failed=states.count("failed"),
        pruned=states.count("pruned"),
    )


def _backwards(backwards: int | None, steps: int) -> int:
    """Older histories do not say: there was at least one backward pass a step."""
    return steps if backwards is None else backwards


def _leading(contest: Contest, runs: Iterable[FinishedRun], tasks: Iterable[str]) -> dict[str, tuple[float, float]]:
    runs = list(runs)
    found = {}
    for task in tasks:
        for metric in contest.leading[task]:
            key = series.evaluated(contest.data, metric, task)
            cell = spread([run.values[key] for run in runs if key in run.values])
            if cell.n:
                found[series.task_value(task, metric)] = (cell.mean, cell.std)
    return found


def _fewest_trials(contest: Contest) -> int:
    """The smallest number of trials of any method that is searched at all; 0 without a search."""
    return min((len(row.tried) for row in contest.rows.rows if row.tried and not row.single), default=0)


def _expected_best(contest: Contest, row: Row) -> float | None:
    """Static weights are not drawn at random: equal weights and the corners come first."""
    values = [tried.value for tried in row.tried if tried.value is not None and math.isfinite(tried.value)]
    if not values or row.static or len(values) < (n := _fewest_trials(contest)):
        return None
    return float(expected_best(np.array(values), n, contest.rows.direction == "max"))


def _mean(numbers: Iterable[float]) -> float:
    known = list(numbers)
    return float(np.mean(known)) if known else math.nan
