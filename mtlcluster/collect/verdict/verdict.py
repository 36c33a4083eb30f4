"""The verdict: which methods are better than the reference, which are not told apart from the best, and how sure it is.

The statistics are those of mtlcluster.collect.inference.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtlcluster.collect.inference.compare import Comparison, compare
from mtlcluster.collect.inference.expected_best import expected_best
from mtlcluster.collect.inference.model import Array
from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.settings import SINGLE
from mtlcluster.collect.statistics import spread
from mtlcluster.collect.verdict import sentences
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.front import make_front
from mtlcluster.collect.verdict.result import MethodResult, Verdict, Versus
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.collect.verdict.scores import Scale
from mtlcluster.sweep import series


@dataclass(frozen=True)
class Table:
    """The values that are compared.

    Attributes:
        rows: The compared rows [M].
        seeds: The seeds that all of them have [S].
        z: Their values [M, S].
        put_in: By row the seeds for which the worst z of that seed stands, since the run failed.
    """

    rows: list[Row]
    seeds: list[int]
    z: Array
    put_in: list[list[int]]


def make_verdict(
    contest: Contest, table: Table, samples: Mapping[str, float] | None = None, left_out: str = ""
) -> Verdict:
    """Makes the verdict.

    Args:
        contest: What is compared.
        table: Its values, see `comparable`.
        samples: By method the standard deviation of its difference from the reference that the test data's own error
            makes, in points of z; None where it is not known.
        left_out: Why it is not known, if something can be done about it.
    """
    reference = next((i for i, row in enumerate(table.rows) if row is contest.reference), None)
    compared = _compare(contest, table, reference, samples)
    results = _results(contest, table, compared, reference)
    complete = all(row.ended for row in contest.rows.rows)
    words = dict(zip((row.name for row in table.rows), compared.words if compared else [], strict=False))
    everyone = [row.name for row in table.rows]
    verdict = Verdict(
        complete=complete,
        tuned=contest.rows.tuned,
        fresh_seeds=contest.rows.fresh,
        data=contest.data,
        seeds=table.seeds,
        reference=contest.reference.name if contest.reference else None,
        relative_to=contest.relative_to,
        baseline=contest.baseline if contest.relative_to else {},
        methods=results,
        best_group=[everyone[i] for i in compared.best_group] if compared and complete else everyone,
        strict=bool(compared and complete and compared.strict),
        better=[name for name, word in words.items() if word == "better"],
        worse=[name for name, word in words.items() if word == "worse"],
        smallest_difference=compared.smallest_difference if compared else math.nan,
        seeds_needed=compared.seeds_needed if compared else None,
        p_range=compared.p_range if compared else None,
        delta=contest.report.keys.delta,
        missing=sentences.missing(contest),
        value=contest.rows.value,
        front=make_front(contest),
    )
    warnings = sentences.warnings(contest, verdict, compared)
    warnings += [f"The test data's own error is left out: {left_out}."] if left_out else []
    verdict = replace(verdict, warnings=warnings)
    return replace(verdict, sentences=sentences.sentences(contest, verdict, compared))


def comparable(contest: Contest) -> Table:
    """The methods whose runs have all ended, with the seeds that all of them have.

    A run that failed counts with the worst z of any finished run with its seed. A run without a finite value counts as
    failed.
    """
    scale = contest.scales[contest.data]
    if scale is None:
        return Table([], [], np.zeros((0, 0)), [])
    by_row = [(row, _z_by_seed(scale, row)) for row in contest.rows.rows if not row.single and not row.missing]
    by_row = [(row, found) for row, found in by_row if found]
    rows = [row for row, _ in by_row]
    worst: dict[int, float] = {}
    for _, found in by_row:
        for seed, number in found.items():
            worst[seed] = min(number, worst.get(seed, number))
    failed = [({*row.failed} | {*row.runs}) - {*found} for row, found in by_row]
    shared = [{*found} | lost for (_, found), lost in zip(by_row, failed, strict=True)]
    seeds = sorted(set.intersection(*shared) & {*worst}) if shared else []
    z = np.array([[found.get(seed, worst[seed]) for seed in seeds] for _, found in by_row])
    return Table(rows, seeds, z, [sorted(lost & {*seeds}) for lost in failed])


def _compare(
    contest: Contest, table: Table, reference: int | None, samples: Mapping[str, float] | None
) -> Comparison | None:
    if not table.rows or not table.seeds:
        return None
    errors = None
    if samples is not None and all(row.name in samples for i, row in enumerate(table.rows) if i != reference):
        errors = np.array([samples.get(row.name, 0.0) for row in table.rows])
    return compare(table.z, reference, contest.report.keys.delta, errors)


def _z_by_seed(scale: Scale, row: Row) -> dict[int, float]:
    found = {seed: scale.z(run.values) for seed, run in sorted(row.runs.items())}
    return {seed: z for seed, z in found.items() if math.isfinite(z)}


def _results(contest: Contest, table: Table, compared: Comparison | None, reference: int | None) -> list[MethodResult]:
    """The rows of the main table: single-task training first, then the reference, then by z."""
    scale = contest.scales[contest.data]
    places = {id(row): i for i, row in enumerate(table.rows)}
    fewest = _fewest_trials(contest)
    found = []
    for row in contest.rows.rows:
        if row.single:
            continue
        result = _budget(_values(contest, scale, row), [row])
        result = replace(result, expected_best=_expected_best(contest, row, fewest))
        place = places.get(id(row))
        if place is not None and table.seeds:
            put_in = table.put_in[place]
            result = replace(
                result, z=float(table.z[place].mean()), n=len(table.seeds) - len(put_in), worst_put_in=put_in
            )
        if place is not None and compared:
            versus = _versus(compared, place)
            result = replace(result, versus_reference=versus, in_best_group=place in compared.best_group)
        found.append((place is None or place != reference, -result.z if math.isfinite(result.z) else math.inf, result))
    ordered = [result for *_, result in sorted(found, key=lambda entry: entry[:2])]
    return [*_single_task(contest, scale), *ordered]


def _versus(compared: Comparison, place: int) -> Versus | None:
    found, word = compared.differences[place], compared.words[place]
    if found is None or word is None:
        return None
    return Versus(found.mean, found.low, found.high, found.half_seeds, found.half_samples, found.p_better, word)


def _values(contest: Contest, scale: Scale | None, row: Row) -> MethodResult:
    """What a row has by itself."""
    runs = dict(sorted(row.runs.items()))
    z = _z_by_seed(scale, row) if scale else {}
    tasks = {seed: scale.task_values(run.values) for seed, run in runs.items()} if scale else {}
    by_task = {
        task: {seed: values[task] for seed, values in tasks.items() if math.isfinite(values[task])}
        for task in contest.leading
    }
    return MethodResult(
        name=row.name,
        chosen=row.trial,
        values=row.values,
        n=len(z),
        z=_mean(z.values()),
        z_by_seed=z,
        per_task={task: _mean(values.values()) for task, values in by_task.items() if values},
        per_task_by_seed={task: values for task, values in by_task.items() if values},
        leading=_leading(contest, runs.values(), contest.leading),
        missing=row.missing,
    )


def _single_task(contest: Contest, scale: Scale | None) -> list[MethodResult]:
    """Single-task training as one row: each task's values come from its own baseline."""
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


def _expected_best(contest: Contest, row: Row, n: int) -> float | None:
    """Static weights are not drawn at random: equal weights and the corners come first."""
    values = [tried.value for tried in row.tried if tried.value is not None and math.isfinite(tried.value)]
    if not values or row.static or len(values) < n:
        return None
    return float(expected_best(np.array(values), n, contest.rows.direction == "max"))


def _mean(numbers: Iterable[float]) -> float:
    known = list(numbers)
    return float(np.mean(known)) if known else math.nan
