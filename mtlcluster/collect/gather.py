"""Of the histories that runs have left what figures and tables need."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlcluster import printable
from mtlcluster.collect.survey import Seen
from mtlcluster.sweep.history import UnsafePickle, read_history

Array = NDArray[np.float64]
POINTS = 256  # kept of each curve: no figure shows more, and a thousand histories stay small
LARGEST = 1e100  # of a number; the squares and axes of larger ones overflow
DRAWN = ("train/", "weight/", "active/", "share/", "learning_rate/", "cosine/", "validation/")
BEST: dict[str, Any] = {"value": str, "direction": str, "number": float, "epoch": int}
OVERALL = {"mean_f1": "mean F1", "exact_match": "exact match", "hamming_score": "Hamming score"}  # binary tasks
ACROSS_TASKS = {f"{data}/{name}" for data in ("validation", "test") for name in ("mean_loss", *OVERALL)}
ACROSS_TASKS |= {"train/total_loss"}
CONFUSION = ("true_negatives", "false_positives", "false_negatives", "true_positives")  # row by row


@dataclass(frozen=True)
class Absent:
    """A run that is not part of the report, and why."""

    name: str
    state: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable.line(self.reason))  # be it out of a file of somebody else's


@dataclass(frozen=True, eq=False)
class Curve:
    """A series, thinned. x: optimizer steps or finished epochs [K]; y: values [K], NaN where there was none."""

    axis: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Task:
    name: str
    kind: str
    metrics: dict[str, str]  # "min" or "max" by metric


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One finished history. A single-task run holds its own task only: the others' heads were never trained."""

    name: str
    seed: int
    method: str
    single_task: str | None
    config: dict[str, Any]
    varied: dict[str, Any]
    tasks: list[Task]
    best: dict[str, Any] | None
    epoch: int | None  # whose validation values count: the best one, or the last where none was chosen
    attempts: int
    cluster: str
    device: str
    versions: dict[str, str]
    curves: dict[str, Curve]
    values: dict[str, float]  # `validation/…` at that epoch, `test/…`, `measured/…`; not all are finite


def gather(seen: Iterable[Seen], advance: Callable[[], object]) -> tuple[list[FinishedRun], list[Absent]]:
    """Reads the histories of the runs that are done. What can't be read is named among the absent; nothing raises."""
    finished, absent = [], []
    for entry in seen:
        found = _finished_or_absent(entry)
        if isinstance(found, FinishedRun):
            finished.append(found)
        else:
            absent.append(found)
        advance()
    return finished, absent


def _finished_or_absent(seen: Seen) -> FinishedRun | Absent:
    name = seen.run.name
    if seen.state != "done":
        return Absent(name, seen.state, seen.error)
    if seen.history is None:
        return Absent(name, "unreadable", "is done, but has no history.pkl")
    try:
        history = _printable(read_history(seen.run.history))
        if not history["info"]["finished"]:
            return Absent(name, "unfinished", "is done by its status, but its history has no end")
        return finished_run(name, history)
    except (UnsafePickle, ValueError, OSError) as error:
        return Absent(name, "unreadable", str(error).removeprefix(f"{seen.run.history}: "))
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        return Absent(name, "unreadable", f"history.pkl lacks what a history has ({type(error).__name__}: {error})")


def _printable(value: Any) -> Any:
    """With texts that fit into a line of a table, names of tasks and series among them."""
    if isinstance(value, str):
        return printable.line(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list | tuple) else value


def finished_run(name: str, history: dict[str, Any]) -> FinishedRun:
    """Raises KeyError, TypeError, ValueError or AttributeError where `history` is not made as histories are."""
    info, series = history["info"], history["series"]
    tasks = [_task(entry) for entry in info["tasks"]]
    best = info["best"] and {key: kind(info["best"][key]) for key, kind in BEST.items()}
    schedule = info["config"]["method"]["schedule"]
    single = schedule.get("task") if schedule["name"] == "single" else None
    if single is not None:
        others = {task.name for task in tasks} - {single}
        tasks = [task for task in tasks if task.name == single]
        series = {k: s for k, s in series.items() if k not in ACROSS_TASKS and not others & set(k.split("/"))}
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
        curves={k: _curve(s) for k, s in _as_numbers(series) if k.startswith(DRAWN) and len(s["value"])},
        values=_values(series, epoch) | _costs(history["measured"]),
    )


def _task(entry: dict[str, Any]) -> Task:
    metrics = {str(name): str(direction) for name, direction in entry["metrics"].items()}
    if not {"min", "max"}.issuperset(metrics.values()):
        raise ValueError(f"metrics should name min or max as the better direction, found {metrics}")
    return Task(str(entry["name"]), str(entry["kind"]), metrics)


def _selected_epoch(best: dict[str, Any] | None, series: dict[str, Any]) -> int | None:
    if best is not None:
        return int(best["epoch"])
    epochs = [s["epoch"][-1] for k, s in series.items() if k.startswith("validation/") and len(s["epoch"])]
    return int(max(epochs)) if epochs else None


def _values(series: dict[str, Any], epoch: int | None) -> dict[str, float]:
    values = {}
    for name, entry in _as_numbers(series):
        numbers = np.asarray(entry["value"], dtype=float)
        if name.startswith("test/") and len(numbers):
            values[name] = float(numbers[-1])
        elif name.startswith("validation/"):
            at = np.flatnonzero(np.asarray(entry["epoch"]) == epoch)
            values |= {name: float(numbers[at[-1]])} if len(at) else {}
    return {name: value if abs(value) < LARGEST else value * np.inf for name, value in values.items()}


def _as_numbers(series: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The series, each confusion matrix [E, 2, 2] as four of them."""
    for name, entry in series.items():
        if not name.endswith("/confusion"):
            yield name, entry
            continue
        cells = np.asarray(entry["value"], dtype=float).reshape(-1, len(CONFUSION)).T
        yield from ((f"{name}/{cell}", {**entry, "value": c}) for cell, c in zip(CONFUSION, cells, strict=True))


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


def _curve(entry: dict[str, Any]) -> Curve:
    axis = "step" if "step" in entry else "epoch"
    x, y = np.asarray(entry[axis], dtype=float), np.asarray(entry["value"], dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"a series has {x.shape} places and {y.shape} values")
    if not (x[0] >= 0 and x[-1] < LARGEST and np.all(x[1:] >= x[:-1])):  # NaN compares with nothing
        raise ValueError(f"a series has {axis}s that do not go up from 0")
    y = np.where(np.abs(y) < LARGEST, y, np.nan)
    if len(x) <= POINTS:
        return Curve(axis, x, y)
    starts = np.arange(0, len(x), -(-len(x) // POINTS))
    present = ~np.isnan(y)
    counts = np.add.reduceat(present.astype(float), starts)
    sums = np.add.reduceat(np.where(present, y, 0.0), starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return Curve(axis, x[np.append(starts[1:], len(x)) - 1], means)
