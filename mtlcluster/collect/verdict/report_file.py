"""report.yaml beside the grid file: what a report compares with, which metrics decide, what is too small to matter.

reference: equal             the method that the others are compared with
leading: {ink: [mae]}        the metrics that decide, by task
delta: 1.0                   differences below it, in points of z, are too small to matter
"""

from collections.abc import Sequence
from pathlib import Path

import pydantic
from pydantic import Field

from mtlcluster.collect.read_histories import TaskInfo
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import nearest
from mtlcluster.pydantic_errors import Checked, first_mistake
from mtlcluster.sweep import series

LEADING = {"binary": "f1", "classification": "accuracy", "regression": "mae"}  # by kind of task
LEFT_BEHIND = (
    "The grid file of this sweep is not here, so no report.yaml is used: the defaults hold for the reference, the "
    "leading metrics and what is too small to matter."
)


class ReportFile(Checked):
    """The keys of report.yaml.

    Attributes:
        reference: The method that the others are compared with; None: the plain sum.
        leading: By task the metrics that decide; by default one for each task.
        delta: δ, in points of z: smaller differences do not matter.
    """

    reference: str | None = Field(default=None, min_length=1)
    leading: dict[str, list[str]] = {}
    delta: float = Field(default=1.0, ge=0)

    @pydantic.field_validator("leading")
    @classmethod
    def _some_metrics(cls, leading: dict[str, list[str]]) -> dict[str, list[str]]:
        for task, metrics in leading.items():
            if not metrics or len({*metrics}) < len(metrics):
                raise ValueError(f"{task} should have at least one metric, and each once")
        return leading


class Report:
    """report.yaml, or the defaults where there is none.

    Attributes:
        keys: Its keys.
        note: Why it was not looked for; else "".
    """

    def __init__(self, path: Path | None) -> None:
        """Reads the file.

        Args:
            path: report.yaml; None if the folder of the grid file is not here.

        Raises:
            UserError: A key is unknown or wrong. The message names file and line.
        """
        self.note = LEFT_BEHIND if path is None else ""
        self.source = YamlFile(path) if path is not None and path.exists() else None
        self.keys = ReportFile()
        if self.source is not None:
            try:
                self.keys = ReportFile.model_validate(self.source.data)
            except pydantic.ValidationError as error:
                self.source.refuse(*first_mistake(error, ReportFile))

    def leading(self, tasks: Sequence[TaskInfo]) -> dict[str, dict[str, str]]:
        """The metrics that decide, by task: the better direction of each, "min" or "max".

        By default F1 of a binary task, the accuracy of a classification, the MAE of a regression, else the task's
        first metric; the loss of a task without metrics.

        Raises:
            UserError: report.yaml names a task or a metric that there is not.
        """
        known = {task.name: {**task.metrics, series.LOSS: "min"} for task in tasks}
        for task, metrics in self.keys.leading.items():
            if task not in known:
                self.refuse(("leading", task), f"there is no task '{task}'{nearest(task, known)}")
            for place, metric in enumerate(metrics):
                if metric not in known[task]:
                    words = f"task '{task}' has no metric '{metric}'{nearest(metric, known[task])}"
                    self.refuse(("leading", task, place), words)
        return {
            task.name: {metric: known[task.name][metric] for metric in self.keys.leading.get(task.name, [usual(task)])}
            for task in tasks
        }

    def refuse(self, key: tuple[str | int, ...], message: str) -> None:
        """Raises UserError that names the line of `key`. Without a file there is nothing to refuse."""
        if self.source is not None:
            self.source.refuse(key, message)


def usual(task: TaskInfo) -> str:
    """The metric that decides on a task by default."""
    wanted = LEADING.get(task.kind, "")
    return wanted if wanted in task.metrics else next(iter(task.metrics), series.LOSS)
