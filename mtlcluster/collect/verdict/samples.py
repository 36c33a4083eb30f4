"""The part of the test data in the errors of the verdict: how the differences vary if the samples are drawn anew."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mtlcluster.collect.bootstrap import Array, LeftOut, difference_sd, run_draws
from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.sweep import series
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.series import TEST


def compared_runs(contest: Contest) -> list[tuple[Row, FinishedRun]]:
    """The runs that `samples_error` looks at, each with its row. None where nothing is compared on test data."""
    rows, seeds = contest.table.rows, contest.table.seeds
    if contest.data != TEST or contest.reference not in rows:
        return []
    return [(row, run) for row in rows for seed, run in row.runs.items() if seed in seeds]


def samples_error(
    contest: Contest, runs: list[tuple[Row, FinishedRun]], sweep: Sweep, advance: Callable[[], object]
) -> dict[str, float] | None:
    """The standard deviation of each row's difference from the reference over draws of the test samples.

    Args:
        contest: What is compared.
        runs: See `compared_runs`.
        sweep: The sweep, whose runs have their predictions in predictions.npz.
        advance: Called after each run.

    Returns:
        By row, in points of z. None without runs.

    Raises:
        LeftOut: The predictions don't tell. The message says why.
    """
    if contest.reference is None or not runs:
        return None
    cache, samples = sweep.report / ".bootstrap", dict[str, str]()
    drawn: dict[str, list[Array]] = {}
    for row, run in runs:
        samples[run.name], z = _z_draws(contest, run, sweep.run(run.name).predictions, cache)
        first = next(iter(samples))
        if samples[first] != samples[run.name]:
            raise LeftOut(f"{first} and {run.name} were evaluated on different samples")
        drawn.setdefault(row.name, []).append(z)
        advance()
    if contest.reference.name not in drawn:
        return None
    reference = drawn[contest.reference.name]
    return {name: difference_sd(draws, reference) for name, draws in drawn.items()}


def _z_draws(contest: Contest, run: FinishedRun, predictions: Path, cache: Path) -> tuple[str, Array]:
    """z of a run on each draw, up to a constant that all runs share; and which samples they were drawn from."""
    scale = contest.scales[TEST]
    assert scale is not None
    slopes = scale.slopes()
    wanted: Mapping[str, tuple[str, str, float]] = {
        key: (*series.task_and_value(key.partition("/")[2]), run.values.get(key, float("nan"))) for key in slopes
    }
    try:
        samples, draws = run_draws(predictions, wanted, cache)
    except LeftOut as why:
        raise LeftOut(f"{run.name}: {why}") from None
    return samples, np.asarray(sum(slopes[key] * draws[key] for key in slopes))
