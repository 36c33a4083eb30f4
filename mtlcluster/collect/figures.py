"""The figures of a report. Each has a method, which returns figure and caption, or None if nothing was recorded.

A new figure is a line in FIGURES and a method of Figures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.colours import OTHERS, Look
from mtlcluster.collect.columns import ARROWS, leading_metrics, overall_columns
from mtlcluster.collect.fonts import families
from mtlcluster.collect.line_panels import Panel, draw_panels
from mtlcluster.collect.read_histories import Array, Curve, TaskInfo
from mtlcluster.collect.result_dots import draw_dots
from mtlcluster.collect.schedule_strips import draw_strips
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import BINS
from mtlcluster.collect.tables import DATA, Table
from mtlcluster.sweep import series

Captioned = tuple[Figure, str]

SMOOTHED = f"Each point is a mean over 1/{BINS} of the training, or over what was recorded in one go if that is longer."
FIGURES = {  # names and titles in the order of the page; each name is a method of Figures
    "results": "Results of every setting",
    "metrics": "Metrics on validation data",
    "validation_losses": "Validation losses",
    "training_losses": "Training losses",
    "total_loss": "Total training loss",
    "weights": "Loss weights",
    "schedule": "Schedule",
    "shares": "Shares of a batch",
    "cosines": "Cosines between task gradients",
    "learning_rate": "Learning rate",
}
EARLY = 0.15  # of the training: the steep beginning, beside which all methods look alike


@dataclass(frozen=True)
class Drawn:
    """A figure in the files `figures/<name>.png` and `.pdf`. size: width and height in inches."""

    name: str
    title: str
    caption: str
    size: tuple[float, float]


class Figures:
    """All figures of one sweep. A setting looks the same in each of them.

    Args:
        settings: The settings.
        tasks: The tasks.
        results: The table of the results.
        looks: The looks of the settings.
        baseline: By column of the results the value of the verdict's baseline.
        relative_to: What the baseline is, such as "single-task training"; "" without one.

    Attributes:
        boxes: The characters of names that no installed font has.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        tasks: Sequence[TaskInfo],
        results: Table,
        looks: Sequence[Look],
        baseline: Mapping[str, float] = MappingProxyType({}),
        relative_to: str = "",
    ) -> None:
        self.settings = list(settings)
        self.tasks = list(tasks)
        self.table = results
        self.looks = looks
        self.baseline, self.relative_to = baseline, relative_to
        self.fonts, self.boxes = families("".join(self._names()))

    def _names(self) -> Iterator[str]:
        yield from (setting.label for setting in self.settings)
        for task in self.tasks:
            yield from (task.name, *task.metrics)

    def draw(self, folder: Path, advance: Callable[[], object]) -> list[Drawn]:
        """Writes PNG and PDF of every figure into `folder`. Calls `advance` after each of FIGURES."""
        drawn = []
        for name, title in FIGURES.items():
            with style.use_style(self.fonts):
                made = getattr(self, name)()
                if made:
                    figure, caption = made
                    style.save(figure, folder / name)
                    drawn.append(Drawn(name, title, caption, tuple(figure.get_size_inches())))
            advance()
        return drawn

    def results(self) -> Captioned | None:
        made = draw_dots(self.table, self.looks, self.baseline)
        if made is None:
            return None
        figure, left_out = made
        data = DATA["test" if any(series.kind(c.key) == "test" for c in self.table.columns) else "validation"]
        line = f"The dashed line is the baseline of the verdict, {self.relative_to}. " if self.relative_to else ""
        return figure, (
            f"Each metric on {data} at the best validation epoch: small dots are seeds, the large one is their mean, "
            f"the bar goes from the lowest to the highest seed. {line}{left_out}"
        )

    def metrics(self) -> Captioned | None:
        panels = [Panel(column.heading, column.key) for column in overall_columns("validation", self.tasks)]
        panels += [
            Panel(f"{task.name} {metric} {ARROWS[way]}", series.evaluated("validation", metric, task.name))
            for task in self.tasks
            for metric, way in leading_metrics(task).items()
        ]
        text = (
            "Each task's metrics (of binary tasks F1) on validation data; the arrow tells which direction is better. "
            f"The vertical axes are fitted to what comes after the first {EARLY:.0%} of the training."
        )
        made = self._lines(panels, "", text, log=False)
        for axis in made[0].axes if made else []:
            style.fit_to_late_values(axis, EARLY)
        return made

    def validation_losses(self) -> Captioned | None:
        panels = [Panel(task.name, series.evaluated("validation", series.LOSS, task.name)) for task in self.tasks]
        if len(panels) > 1:
            panels.insert(0, Panel("mean of the tasks", series.evaluated("validation", series.MEAN_LOSS)))
        text = "Each task's loss on validation data, and the mean of the tasks."
        return self._lines(panels, "loss", text, log=True)

    def training_losses(self) -> Captioned | None:
        panels = [Panel(task.name, series.training_loss(task.name)) for task in self.tasks]
        text = (
            f"Each task's unweighted training loss. {SMOOTHED} Where a task was not active, its line goes straight on "
            "to the next step at which it was."
        )
        return self._lines(panels, "loss", text, log=True)

    def total_loss(self) -> Captioned | None:
        text = (
            "The total training loss as each method computes it. Methods weight the losses differently, so the heights "
            f"of different methods can't be compared. {SMOOTHED}"
        )
        return self._lines([Panel("total loss", series.TOTAL_LOSS)], "loss", text, log=True)

    def weights(self) -> Captioned | None:
        panels = [Panel(task.name, series.weight(task.name)) for task in self.tasks]
        constant = [s for s in self.settings if all(_is_one(c.y) for p in panels for c in s.curves(p.series))]
        moving = [s for s in self.settings if s not in constant]
        names = ", ".join(s.label for s in constant[:8]) + (", …" if len(constant) > 8 else "")
        left_out = f"Not drawn, since their weights are 1 throughout (the grey line): {names}."
        text = f"The weight of each task's loss. {SMOOTHED} {left_out if moving and constant else ''}"
        if not moving:
            text = "The weight of each task's loss: 1 throughout, in every setting."
        made = self._lines(panels, "weight", text, log=True, only=moving or self._in_front()[-1:])
        for axis in made[0].axes if made else []:
            axis.axhline(1.0, color=OTHERS, linewidth=0.8, zorder=1)
        return made

    def schedule(self) -> Captioned | None:
        made = draw_strips(self.settings, self.tasks)
        if made is None:
            return None
        figure, more = made
        return figure, (
            f"Which tasks were active when: the share of steps, in {BINS} parts of the training, mean over seeds. "
            f"{more} Settings of the same activity share one strip; single-task baselines are left out."
        )

    def shares(self) -> Captioned | None:
        panels = [Panel(task.name, series.share(task.name)) for task in self.tasks]
        text = (
            "The share of a batch that is drawn for each task, where the schedule draws samples; each counts for its "
            f"task alone, and all alike, so that the share multiplies the task's weight. {SMOOTHED}"
        )
        return self._lines(panels, "share", text, log=False)

    def cosines(self) -> Captioned | None:
        recorded = dict.fromkeys(key for s in self.settings for run in s.runs for key in run.curves)
        panels = [Panel(" · ".join(series.tasks(key)), key) for key in recorded if series.kind(key) == "cosine"]
        text = (
            "The cosine between two tasks' gradients of the trunk, below 0 where they conflict; only where a method "
            f"computes it anyway. {SMOOTHED}"
        )
        made = self._lines(panels, "cosine", text, log=False)
        for axis in made[0].axes if made else []:
            axis.axhline(0, color=style.EDGE, linewidth=0.6, zorder=1)
        return made

    def learning_rate(self) -> Captioned | None:
        trunk, heads = series.TRUNK_RATE, series.HEADS_RATE
        runs = [run for setting in self.settings for run in setting.runs]
        if any(_differ(run.curves, trunk, heads) for run in runs):
            panels = [Panel("trunk", trunk), Panel("heads", heads)]
        else:
            panels = [Panel("trunk and heads", trunk)]
        alike = len({run.curves[key].y.tobytes() for run in runs for key in (trunk, heads) if key in run.curves}) == 1
        text = f"The learning rate{', the same in every run' if alike else ''}."
        return self._lines(panels, "learning rate", text, log=False, only=self._in_front()[:1] if alike else None)

    def _in_front(self) -> list[Setting]:
        return [setting for setting, look in zip(self.settings, self.looks, strict=True) if look.in_front]

    def _lines(
        self, panels: list[Panel], ylabel: str, text: str, *, log: bool, only: list[Setting] | None = None
    ) -> Captioned | None:
        """One panel a series, a line and a band a setting. The caption is `text`, then what line and band are."""
        made = draw_panels(self.settings, self.looks, panels, ylabel, log=log, only=only)
        return (made[0], f"{text} {made[1]}") if made else None


def _is_one(values: Array) -> bool:
    return bool(np.all(np.isnan(values) | (values == 1.0)))


def _differ(curves: dict[str, Curve], one: str, other: str) -> bool:
    return one in curves and other in curves and not np.array_equal(curves[one].y, curves[other].y, equal_nan=True)
