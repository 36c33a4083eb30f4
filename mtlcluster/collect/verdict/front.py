"""The front that static weights trace, and how the methods stand to it."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.result import Beaten, Front, FrontPoint
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.collect.verdict.scores import Scale
from mtlcluster.collect.verdict.words import counted, names

ENOUGH = 8  # static weights; fewer trace no front
Point = dict[str, float]  # the mean value of each task, in points
BySeed = dict[int, FinishedRun]


def make_front(contest: Contest) -> Front | None:
    """Holds every method against the static weights.

    With a search, the trials of the static weights are compared with the chosen setting of a method on the tuning
    seeds, which both have; else on the seeds of the grid.

    Returns:
        The front; None with fewer than eight static weights.
    """
    statics = _statics(contest.rows.rows)
    if len(statics) < ENOUGH or contest.scales[contest.data] is None:
        return None
    decisive = {name: _point(contest.scales[contest.data], runs) for name, (_, runs) in statics.items()}
    edge = {n for n, p in decisive.items() if p and not any(_beats(q, p) for q in decisive.values())}
    points = []
    for name, (values, runs) in statics.items():
        validation, test = (_point(contest.scales[data], runs) for data in ("validation", "test"))
        points.append(FrontPoint(name, values, validation, test, name in edge))
    methods, every = {}, [runs for _, runs in statics.values()]
    for row in contest.rows.rows:
        if not row.single and not row.static and (own := _shared_runs(row)):
            methods[row.name] = _stand(contest, every, [statics[name][1] for name in edge], own)
    return Front(list(contest.leading), points, methods, _sentences(contest, methods, len(points)))


def _statics(rows: Iterable[Row]) -> dict[str, tuple[dict[str, object], BySeed]]:
    found: dict[str, tuple[dict[str, object], BySeed]] = {}
    for row in rows:
        if row.static and row.tried:
            tried = [one for one in row.tried if one.runs]
            found |= {f"{row.name} trial {one.trial}": (one.values, one.runs) for one in tried}
        elif row.static:
            found[row.name] = (row.values, row.runs)
    return found


def _shared_runs(row: Row) -> BySeed:
    """The runs of a method that are held against the static weights."""
    if not row.tried:
        return row.runs
    return next((one.runs for one in row.tried if one.trial == row.trial), {})


def _stand(contest: Contest, statics: list[BySeed], edge: list[BySeed], runs: BySeed) -> Beaten:
    validation = [_pair(contest.scales["validation"], one, runs) for one in statics]
    test = [_pair(contest.scales["test"], one, runs) for one in statics]
    beaten = [_beats(static, own) for static, own in validation]
    again = [first and _beats(static, own) for first, (static, own) in zip(beaten, test, strict=True)]
    delta, scale = contest.report.keys.delta, contest.scales[contest.data]
    at_the_edge = [_pair(scale, one, runs) for one in edge]
    below = any(_beats(static, own, delta) for static, own in at_the_edge)
    above = any(_beats(own, static, delta) for static, own in at_the_edge)
    return Beaten(sum(beaten), sum(again), "below" if below else "above" if above else "on")


def _pair(scale: Scale | None, static: BySeed, own: BySeed) -> tuple[Point, Point]:
    """Both as points over the seeds that both have."""
    seeds = static.keys() & own.keys()
    first, second = ({seed: runs[seed] for seed in seeds} for runs in (static, own))
    return _point(scale, first), _point(scale, second)


def _point(scale: Scale | None, runs: BySeed) -> Point:
    if scale is None or not runs:
        return {}
    values = [scale.task_values(run.values) for run in runs.values()]
    point = {task: float(np.mean([one[task] for one in values])) for task in scale.leading}
    return point if all(map(math.isfinite, point.values())) else {}


def _beats(one: Point, other: Point, margin: float = 0.0) -> bool:
    """True if it is better on all tasks, by more than the margin."""
    return bool(one) and bool(other) and all(one[task] > other[task] + margin for task in one)


def _sentences(contest: Contest, methods: Mapping[str, Beaten], statics: int) -> list[str]:
    within = counted(contest.report.keys.delta, "point")
    plain = {row.name for row in contest.rows.rows if row.plain_sum}  # it is one of the static weights
    held = {name: beaten for name, beaten in methods.items() if name not in plain}
    on, above = ([name for name, one in held.items() if one.place == place] for place in ("on", "above"))
    found = []
    if on:
        lie = "lies" if len(on) == 1 else "lie"
        front = f"on the front of the {statics} static weights, within {within}"
        found.append(f"{names(on)} {lie} {front}: fixed weights do the same.")
    if above:
        lie = "lies" if len(above) == 1 else "lie"
        found.append(f"{names(above)} {lie} beyond the front of the {statics} static weights, by more than {within}.")
    beaten = sorted((one.on_validation, one.again_on_test, name) for name, one in held.items() if one.on_validation)
    if beaten:
        again = ", in brackets how many of them again on the test data" if contest.data == "test" else ""
        listed = [f"{name} {n}{f' ({m})' if again else ''}" for n, m, name in reversed(beaten)]
        found.append(f"So many of them beat a method on all tasks on the validation data{again}: {names(listed)}.")
    return found
