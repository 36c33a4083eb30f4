"""Reads from the histories of runs what figures and tables need."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlcluster import printable
from mtlcluster.collect.run_list import ListedRun
from mtlcluster.sweep import series as names
from mtlcluster.sweep.history import UnsafePickle, read_history

Array = NDArray[np.float64]
POINTS = 256  # kept of each curve: no figure shows more, and a thousand histories stay small
MANY, FEWER_POINTS = 2000, 64  # with more runs than that, curves are means over many of them
LARGEST = 1e100  # larger numbers count as infinite: their squares and their axes would overflow
DRAWN = ("train", "weight", "active", "share", "learning_rate", "cosine", "validation")  # kinds of series
ENDED_EARLY = ("pruned", "failed", "cancelled")
BEST: dict[str, Any] = {"value": str, "direction": str, "number": float, "epoch": int}


@dataclass(frozen=True)
class Spent:
    """What a run has spent.

    Attributes:
        backwards: Backward passes through the trunk; None if its history does not say.
        steps: Optimizer steps.
        seconds: Seconds of training.
    """

    backwards: int | None = None
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class OmittedRun:
    """A run that is not part of the report, and why.

    Attributes:
        name: Its name.
        state: Its state, or why its history can't be read.
        reason: In words.
        best: As in FinishedRun, if it has ended early and left a history.
        spent: What it has spent, likewise.
    """

    name: str
    state: str
    reason: str
    best: dict[str, Any] | None = None
    spent: Spent = Spent()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable.line(self.reason))  # it may come from somebody else's file


@dataclass(frozen=True, eq=False)
class Curve:
    """A series, thinned.

    Attributes:
        axis: "step" or "epoch".
        x: Optimizer steps or finished epochs [K].
        y: Values [K]; NaN where there was none.
    """

    axis: str
    x: Array
    y: Array


@dataclass(frozen=True)
class TaskInfo:
    """A task, as a history describes it.

    Attributes:
        name: The task's name.
        kind: Such as "classification" or "binary".
        metrics: The better direction of each metric: "min" or "max".
    """

    name: str
    kind: str
    metrics: dict[str, str]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One finished history. A single-task run holds its own task only: the heads of the others were never trained.

    Attributes:
        epoch: The epoch whose validation values count: the best one, or the last one where none was chosen.
        curves: The series that are drawn, by name.
        values: `validation/…` at that epoch, `test/…` and `measured/…`. Some may not be finite.
        spent: What its training has spent.
    """

    name: str
    seed: int
    method: str
    single_task: str | None
    config: dict[str, Any]
    varied: dict[str, Any]
    tasks: list[TaskInfo]
    best: dict[str, Any] | None
    epoch: int | None
    attempts: int
    cluster: str
    device: str
    versions: dict[str, str]
    curves: dict[str, Curve]
    values: dict[str, float]
    spent: Spent = Spent()


def read_histories(
    listed: Iterable[ListedRun], advance: Callable[[], object]
) -> tuple[list[FinishedRun], list[OmittedRun]]:
    """Reads the histories of the runs that are done. A history that can't be read makes an omitted run, no exception.

    Args:
        listed: All runs of the sweep.
        advance: Called after each run.
    """
    entries = list(listed)
    points = points_of(len(entries))
    return split(read_run(entry, points, advance) for entry in entries)


def points_of(runs: int) -> int:
    """How many points are kept of each curve of so many runs."""
    return POINTS if runs <= MANY else FEWER_POINTS


def read_run(listed: ListedRun, points: int, advance: Callable[[], object]) -> FinishedRun | OmittedRun:
    """Reads one history, see `read_histories`."""
    found = _finished_or_omitted(listed, points)
    advance()
    return found


def split(found: Iterable[FinishedRun | OmittedRun]) -> tuple[list[FinishedRun], list[OmittedRun]]:
    """The finished and the omitted ones."""
    finished, omitted = [], []
    for run in found:
        if isinstance(run, FinishedRun):
            finished.append(run)
        else:
            omitted.append(run)
    return finished, omitted


def _finished_or_omitted(listed: ListedRun, points: int) -> FinishedRun | OmittedRun:
    name = listed.run.name
    if listed.state != "done":
        return _ended_early(listed) if listed.state in ENDED_EARLY and listed.history else _unread(listed)
    if listed.history is None:
        return OmittedRun(name, "unreadable", "is done, but has no history.pkl")
    try:
        history = _printable(read_history(listed.run.history))
        if not history["info"]["finished"]:
            return OmittedRun(name, "unfinished", "is done by its status, but its history has no end")
        return finished_run(name, history, points)
    except (UnsafePickle, ValueError, OSError) as error:
        return OmittedRun(name, "unreadable", str(error).removeprefix(f"{listed.run.history}: "))
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"history.pkl lacks what a history has ({type(error).__name__}: {error})"
        return OmittedRun(name, "unreadable", reason)


def _unread(listed: ListedRun) -> OmittedRun:
    return OmittedRun(listed.run.name, listed.state, listed.error)


def _ended_early(listed: ListedRun) -> OmittedRun:
    """A run whose training is over without its end: what it has spent counts."""
    try:
        history = _printable(read_history(listed.run.history))
        best = _best(history["info"])
        return OmittedRun(listed.run.name, listed.state, listed.error, best, _spent(history))
    except (UnsafePickle, ValueError, OSError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        return _unread(listed)


def _best(info: dict[str, Any]) -> dict[str, Any] | None:
    best: dict[str, Any] | None = info["best"] and {key: kind(info["best"][key]) for key, kind in BEST.items()}
    return best


def _spent(history: dict[str, Any]) -> Spent:
    backwards = history["info"].get("backwards")
    steps = max((int(s["step"][-1]) for s in history["series"].values() if "step" in s and len(s["step"])), default=0)
    seconds = np.asarray(history["measured"].get("epoch_seconds", {}).get("value", []), dtype=float)
    return Spent(None if backwards is None else int(backwards), steps, float(seconds[np.abs(seconds) < LARGEST].sum()))


def _printable(value: Any) -> Any:
    """Makes every text, names of tasks and series among them, fit into a line of a table."""
    if isinstance(value, str):
        return printable.line(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list | tuple) else value


def finished_run(name: str, history: dict[str, Any], points: int = POINTS) -> FinishedRun:
    """Makes a FinishedRun of a history.

    Args:
        name: The run's name.
        history: The history.
        points: How many are kept of each curve.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: `history` does not have the form of a history.
    """
    info, series = history["info"], history["series"]
    tasks = [_task(entry) for entry in info["tasks"]]
    best = _best(info)
    schedule = info["config"]["method"]["schedule"]
    single = schedule.get("task") if schedule["name"] == "single" else None
    if single is not None:
        others = {task.name for task in tasks} - {single}
        tasks = [task for task in tasks if task.name == single]
        series = {k: s for k, s in series.items() if k not in names.OVER_TASKS and others.isdisjoint(names.tasks(k))}
    epoch = _selected_epoch(best, series)
    given = [dict(info["config"]), dict(info["varied"])]
    config, varied = json.loads(json.dumps(given, default=str))  # plain values, whatever they were
    return FinishedRun(
        name=name,
        seed=int(info["seed"]),
        method=str(info["method"]),
        single_task=single,
        config=config,
        varied=varied,
        tasks=tasks,
        best=best,
        epoch=epoch,
        attempts=len(info["attempts"]),
        cluster=str(info.get("cluster", "")),
        device=str(info["device"]),
        versions={str(k): str(v) for k, v in info["versions"].items()},
        curves=_curves(series, points),
        values=_values(series, epoch) | _costs(history["measured"]),
        spent=_spent(history),
    )


def _task(entry: dict[str, Any]) -> TaskInfo:
    metrics = {str(name): str(direction) for name, direction in entry["metrics"].items()}
    if not {"min", "max"}.issuperset(metrics.values()):
        raise ValueError(f"metrics should name min or max as the better direction, found {metrics}")
    return TaskInfo(str(entry["name"]), str(entry["kind"]), metrics)


def _selected_epoch(best: dict[str, Any] | None, series: dict[str, Any]) -> int | None:
    if best is not None:
        return int(best["epoch"])
    epochs = [s["epoch"][-1] for k, s in series.items() if names.kind(k) == "validation" and len(s["epoch"])]
    return int(max(epochs)) if epochs else None


def _values(series: dict[str, Any], epoch: int | None) -> dict[str, float]:
    values = {}
    for name, entry in _as_numbers(series):
        numbers = np.asarray(entry["value"], dtype=float)
        if names.kind(name) == "test" and len(numbers):
            values[name] = float(numbers[-1])
        elif names.kind(name) == "validation":
            at = np.flatnonzero(np.asarray(entry["epoch"]) == epoch)
            values |= {name: float(numbers[at[-1]])} if len(at) else {}
    return {name: value if abs(value) < LARGEST else value * np.inf for name, value in values.items()}


def _as_numbers(series: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The series, each confusion matrix [E, 2, 2] as four series [E]."""
    for name, entry in series.items():
        if not names.is_confusion(name):
            yield name, entry
            continue
        columns = np.asarray(entry["value"], dtype=float).reshape(-1, len(names.CELLS)).T
        for cell, column in zip(names.CELLS, columns, strict=True):
            yield names.confusion_cell(name, cell), {**entry, "value": column}


def _costs(measured: dict[str, Any]) -> dict[str, float]:
    ways: dict[str, tuple[str, Callable[[Array], Any], float]] = {
        "samples_per_second": ("samples_per_second", np.median, 1.0),
        "epoch_seconds": ("epoch_seconds", np.median, 1.0),
        "peak_memory": ("peak_memory_mib", np.max, 2.0**-20),
    }
    costs = {}
    for name, (shown, over_epochs, unit) in ways.items():
        numbers = np.asarray(measured.get(name, {}).get("value", []), dtype=float)
        numbers = numbers[np.abs(numbers) < LARGEST]
        if len(numbers):
            costs[f"measured/{shown}"] = float(over_epochs(numbers)) * unit
    return costs


def _curves(series: dict[str, Any], points: int) -> dict[str, Curve]:
    """The series that are drawn. Those with the same steps share one array of them."""
    shared: dict[bytes, Array] = {}
    found = {}
    for name, entry in _as_numbers(series):
        if names.kind(name) in DRAWN and len(entry["value"]):
            curve = _curve(entry, points)
            found[name] = replace(curve, x=shared.setdefault(curve.x.tobytes(), curve.x))
    return found


def _curve(entry: dict[str, Any], points: int) -> Curve:
    axis = "step" if "step" in entry else "epoch"
    x, y = np.asarray(entry[axis], dtype=float), np.asarray(entry["value"], dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"a series has {x.shape} places and {y.shape} values")
    if not (x[0] >= 0 and x[-1] < LARGEST and np.all(x[1:] >= x[:-1])):  # also false for NaN
        raise ValueError(f"a series has {axis}s that do not go up from 0")
    y = np.where(np.abs(y) < LARGEST, y, np.nan)
    if len(x) <= points:
        return Curve(axis, x, y)
    starts = np.arange(0, len(x), -(-len(x) // points))
    present = ~np.isnan(y)
    counts = np.add.reduceat(present.astype(float), starts)
    sums = np.add.reduceat(np.where(present, y, 0.0), starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return Curve(axis, x[np.append(starts[1:], len(x)) - 1], means)
