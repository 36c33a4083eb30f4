"""Columns of tables: values of the histories, Δm and the mean rank. Each knows its cells and how they are shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mtlcluster.collect.read_histories import TaskInfo
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import Spread, mean_ranks, spread
from mtlcluster.collect.verdict.scores import Scale
from mtlcluster.sweep import series

ARROWS = {"min": "↓", "max": "↑", "": ""}
DELTA_M, MEAN_RANK = "delta_m_percent", "mean_rank"  # keys
HEADINGS = {"mean_f1": "mean F1", "exact_match": "exact match", "hamming_score": "Hamming score"}


@dataclass(frozen=True)
class Column:
    """A value of the histories: a cell is its spread over the seeds of a setting.

    Attributes:
        key: The name of the value, such as `test/left/accuracy`.
        group: The task; empty for a value of no task.
        name: The heading.
        direction: Which direction is better, "min" or "max"; empty for neither.
    """

    key: str
    group: str
    name: str
    direction: str

    over_seeds = True  # a cell has a standard deviation and a number of seeds

    @property
    def heading(self) -> str:
        return " ".join(part for part in (self.name, ARROWS[self.direction]) if part)

    def numbers(self, setting: Setting, settings: Sequence[Setting]) -> list[float]:
        """One number for each run of `setting` that has this value. `settings` are all rows of the table."""
        return setting.numbers(self.key)

    def cells(self, settings: Sequence[Setting]) -> list[Spread]:
        """A cell for each setting."""
        return [spread(self.numbers(setting, settings)) for setting in settings]

    def has_finite(self, settings: Sequence[Setting]) -> bool:
        return any(spread(self.numbers(setting, settings)).n for setting in settings)


@dataclass(frozen=True)
class DeltaColumn(Column):
    """Δm, counted by task, against the ONE single-task baseline of each task: −z, see verdict/scores.py."""

    key: str = DELTA_M
    group: str = ""
    name: str = "Δm %"
    direction: str = "min"
    scale: Scale | None = None

    def numbers(self, setting: Setting, settings: Sequence[Setting]) -> list[float]:
        """Empty for baselines and without a scale. Runs that lack a value are left out."""
        if self.scale is None or setting.single:
            return []
        return [-z for z in (self.scale.z(run.values) for run in setting.runs) if math.isfinite(z)]


@dataclass(frozen=True)
class RankColumn(Column):
    """The mean rank over the tasks, among the multi-task settings that have every metric; one number a setting.

    The rank in a task is the mean over its `metrics`: a task with many metrics does not count more than others.
    """

    key: str = MEAN_RANK
    group: str = ""
    name: str = "mean rank"
    direction: str = "min"
    metrics: tuple[Column, ...] = ()

    over_seeds = False

    def cells(self, settings: Sequence[Setting]) -> list[Spread]:
        """Metrics without a finite value are left out."""
        nothing = Spread(math.nan, math.nan, 0)
        by_metric = [(metric, metric.cells(settings)) for metric in self.metrics if metric.has_finite(settings)]
        ranked = [i for i, s in enumerate(settings) if not s.single and all(cells[i].n for _, cells in by_metric)]
        if len(ranked) < 2 or not by_metric:
            return [nothing] * len(settings)
        by_task = []
        for _, own in groupby(by_metric, key=lambda entry: entry[0].group):
            columns = list(own)
            means = [[cells[i].mean for _, cells in columns] for i in ranked]
            by_task.append(mean_ranks(means, [metric.direction for metric, _ in columns]))
        ranks = {row: sum(one) / len(one) for row, one in zip(ranked, zip(*by_task, strict=True), strict=True)}
        return [Spread(ranks[i], math.nan, 1) if i in ranks else nothing for i in range(len(settings))]


def result_columns(data: str, tasks: Sequence[TaskInfo], scale: Scale | None) -> list[Column]:
    """The columns of the results: values over all tasks, the leading metrics of each task, Δm and the mean rank.

    A task without metrics is judged by its loss.
    """
    own = [_task_columns(data, task, leading_metrics(task) or {series.LOSS: "min"}) for task in tasks]
    metrics = tuple(column for columns in own for column in columns)
    return [*overall_columns(data, tasks), *metrics, DeltaColumn(scale=scale), RankColumn(metrics=metrics)]


def every_column(data: str, tasks: Sequence[TaskInfo]) -> list[Column]:
    """The columns of a table of all values: every metric and the loss of each task, and the values over all tasks."""
    own = [column for t in tasks for column in _task_columns(data, t, {**t.metrics, series.LOSS: "min"})]
    means = [
        Column(series.evaluated(data, series.RELATIVE_LOSS), "", "relative loss", "min"),
        Column(series.evaluated(data, series.MEAN_LOSS), "", "mean loss", "min"),
    ]
    return [*own, *means, *overall_columns(data, tasks)]


def confusion_columns(data: str, tasks: Sequence[TaskInfo]) -> list[Column]:
    matrices = [(task.name, series.evaluated(data, series.CONFUSION, task.name)) for task in tasks]
    return [
        Column(series.confusion_cell(matrix, cell), task, cell.replace("_", " "), "")
        for task, matrix in matrices
        for cell in series.CELLS
    ]


def cost_columns() -> list[Column]:
    return [
        Column("measured/samples_per_second", "", "samples/s", ""),
        Column("measured/epoch_seconds", "", "seconds/epoch", ""),
        Column("measured/peak_memory_mib", "", "peak memory (MiB)", ""),
    ]


def overall_columns(data: str, tasks: Sequence[TaskInfo]) -> list[Column]:
    """Values computed over all binary tasks together. Empty unless there are several."""
    if sum(task.kind == "binary" for task in tasks) < 2:
        return []
    return [Column(series.evaluated(data, name), "", HEADINGS[name], "max") for name in series.OVER_BINARY_TASKS]


def leading_metrics(task: TaskInfo) -> dict[str, str]:
    """The metrics that results and figures show: F1 of a binary task, which has many metrics; else all."""
    return {"f1": task.metrics["f1"]} if task.kind == "binary" and "f1" in task.metrics else task.metrics


def _task_columns(data: str, task: TaskInfo, directions: dict[str, str]) -> list[Column]:
    return [
        Column(series.evaluated(data, name, task.name), task.name, name, direction)
        for name, direction in directions.items()
    ]
