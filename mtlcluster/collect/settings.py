"""Groups runs into settings: runs that differ only in the seed. A setting is a line in a figure, a row in a table."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlcluster.collect.read_histories import Curve, FinishedRun, TaskInfo
from mtlcluster.config.run import NOT_IDENTITY, PLACED, without_place

SINGLE = "single-task"
NOT_A_SETTING = NOT_IDENTITY | {"seed", "method"}


@dataclass(frozen=True, eq=False)
class Setting:
    """One method with one choice of everything else that the grid varied.

    The single-task baselines of all tasks are one setting, too: the values of each task come from its own runs.

    Attributes:
        method: The method's label.
        values: The other options that differ between settings, by shortened key.
        label: Method and values; it is unique.
        runs: One run a seed; of a single-task baseline, one run a seed and task.
    """

    method: str
    values: dict[str, Any]
    label: str
    runs: list[FinishedRun]

    @property
    def single(self) -> bool:
        return self.runs[0].single_task is not None

    @property
    def baseline(self) -> bool:
        return self.single or self.method == "equal"

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most seeds that any task has."""
        counts = Counter(run.single_task for run in self.runs).values()
        return min(counts), max(counts)

    def curves(self, series: str) -> list[Curve]:
        """One curve for each run that has this series at all."""
        found = [run.curves[series] for run in self.runs if series in run.curves]
        return [curve for curve in found if np.isfinite(curve.y).any()]

    def numbers(self, key: str) -> list[float]:
        """One number for each run that has this value. It may not be finite."""
        return [run.values[key] for run in self.runs if key in run.values]


def group_runs(runs: list[FinishedRun]) -> list[Setting]:
    """Groups the runs. Baselines come first, the others in the order of the validation value, the best one first."""
    keys = [*_differing_keys(runs), *_options_rounded_in_names(runs)]
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        identity = {key: _comparable(key, value) for key, value in _choices(run) if key in keys}
        groups.setdefault(json.dumps([_method(run), identity], sort_keys=True, default=str), []).append(run)
    chosen = [dict(_choices(group[0])) for group in groups.values()]
    columns = {short: [one.get(key) for one in chosen] for short, key in zip(_shortened(keys), keys, strict=True)}
    texts = {short: _distinct_texts(column) for short, column in columns.items()}
    found = []
    for i, group in enumerate(groups.values()):
        method, values = _method(group[0]), {short: column[i] for short, column in columns.items()}
        label = " ".join([method, *(f"{short}={texts[short][i]}" for short in values)])
        found.append(Setting(method, values, label, group))
    return _ordered(found)


def trained_tasks(runs: list[FinishedRun]) -> list[TaskInfo]:
    """Every task that some run trained, in the order of the run with the most tasks."""
    tasks: dict[str, TaskInfo] = {}
    for run in sorted(runs, key=lambda run: -len(run.tasks)):
        for task in run.tasks:
            known = tasks.get(task.name, task)
            tasks[task.name] = TaskInfo(task.name, known.kind, {**task.metrics, **known.metrics})
    return list(tasks.values())


def best_epoch_rule(settings: list[Setting]) -> tuple[str, str] | None:
    """The value and direction by which the multi-task runs chose their best epochs. None if they differ in it."""
    runs = [run for setting in settings if not setting.single for run in setting.runs]
    ways = {(run.best["value"], run.best["direction"]) if run.best else None for run in runs}
    return ways.pop() if len(ways) == 1 else None


def _method(run: FinishedRun) -> str:
    if run.single_task is None:
        return run.method
    rest = run.method.replace(f"single(task={run.single_task})", "", 1).strip("+")
    return f"{SINGLE}+{rest}" if rest else SINGLE


def _differing_keys(runs: list[FinishedRun]) -> list[str]:
    """The keys, other than method and seed, in which the configurations differ.

    A key that some configurations lack counts only if the grid varied it. Else a newer version of the library has
    added the option, and its default changes nothing.
    """
    varied = {key for run in runs for key in run.varied}
    texts: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in _flat(run.config):
            texts.setdefault(key, Counter())[json.dumps(_comparable(key, value), default=str)] += 1
    return [
        key
        for key, counts in texts.items()
        if len(counts) > 1 or (counts.total() < len(runs) and any(f"{key}.".startswith(f"{v}.") for v in varied))
    ]


def _options_rounded_in_names(runs: list[FinishedRun]) -> list[str]:
    """The options in which methods of the same name differ: a name rounds numbers, a grid gives them exactly."""
    known: dict[tuple[str, str], str] = {}
    differing: dict[str, None] = {}
    for run in runs:
        for key, value in _options(run):
            text = json.dumps(value, default=str)
            if known.setdefault((_method(run), key), text) != text and key != "method.schedule.task":
                differing[key] = None
    return list(differing)


def _choices(run: FinishedRun) -> Iterator[tuple[str, Any]]:
    yield from _flat(run.config)
    yield from _options(run)


def _options(run: FinishedRun) -> Iterator[tuple[str, Any]]:
    """The options of the method. A user's own file counts as the same one in any folder."""
    for key, value in _flat(run.config["method"], "method."):
        yield key, Path(value).name if key.endswith(".name") else value


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if prefix or key not in NOT_A_SETTING:
            if isinstance(value, dict) and value:
                yield from _flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value


def _comparable(key: str, value: Any) -> Any:
    """The value without its place: the same data in another place, as on another cluster, are the same data."""
    return without_place(value) if key.split(".")[0] in PLACED else value


def _shortened(keys: list[str]) -> list[str]:
    """The last part of each dotted key, or as many of its last parts as make it unique."""
    names = []
    for key in keys:
        parts = key.split(".")
        tails = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        clashes = [{".".join(other.split(".")[-count:]) for other in keys if other != key} for count in range(1, 9)]
        names.append(next((tail for tail, taken in zip(tails, clashes, strict=False) if tail not in taken), key))
    return names


def _distinct_texts(values: list[Any]) -> list[str]:
    """A short text for each value. Different values have different texts; numbers have as few digits as that needs."""
    exact = [json.dumps(value, sort_keys=True, default=str) for value in values]
    for digits in range(6, 18):
        texts = [_plain(value, digits) for value in values]
        if len({*texts}) == len({*exact}):
            return texts
    return exact  # needed for the text "1" beside the number 1


def _plain(value: Any, digits: int) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_plain(v, digits) for v in value)
    if isinstance(value, float):
        return f"{value:.{digits}g}" if digits < 17 else repr(value)
    return "none" if value is None else str(value)


def _ordered(found: list[Setting]) -> list[Setting]:
    way = best_epoch_rule(found)

    def place(setting: Setting) -> tuple[Any, ...]:
        numbers = [run.best["number"] for run in setting.runs if run.best]
        mean = float(np.mean(numbers)) if way and numbers and not setting.single else 0.0
        rank = -mean if way and way[1] == "max" else mean
        return (not setting.single, not setting.baseline, rank if np.isfinite(rank) else np.inf, setting.label)

    return sorted(found, key=place)
