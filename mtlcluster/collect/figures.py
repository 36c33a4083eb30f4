"""The figures: each says in its caption what it shows, and is None where the runs recorded nothing for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.fonts import families
from mtlcluster.collect.gather import Array, Curve, Task
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import BINS, Band, band, spread
from mtlcluster.collect.tables import (
    ARROWS,
    DATA,
    Column,
    Table,
    delta_column,
    deltas_of,
    leading_metrics,
    overall_columns,
    rank_column,
)

SMOOTHED = f"Each point is a mean over 1/{BINS} of the training, or over what was recorded in one go if that is longer."
FIGURES = {  # in the order of the page; each is a method of Figures
    "results": "Results",
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
PANELS_SHOWN = 24  # the layout of many takes minutes, and nobody looks at hundreds
ROWS_SHOWN = 40
STRIPS_SHOWN = 10


ZEROS = "Below the dotted line a logarithmic axis goes on, linearly, down to 0."


def _first(shown: int, there: int, what: str) -> str:
    every = f"The first {shown} of {there} {what} are shown; the tables have every task and setting."
    return every if shown < there else ""


@dataclass(frozen=True)
class Drawn:
    """A figure in files `figures/<name>.png` and `.pdf`. size: width and height in inches."""

    name: str
    title: str
    caption: str
    size: tuple[float, float]


@dataclass(frozen=True)
class Panel:
    title: str
    series: str


class Figures:
    """Everything that is drawn of one sweep, with the same look for the same setting."""

    def __init__(self, found: Sequence[Setting], tasks: Sequence[Task], results: Table) -> None:
        self.found = list(found)
        self.tasks = list(tasks)
        self.table = results
        self.looks = style.looks(found)
        self.fonts, self.boxes = families("".join(self._names()))

    def _names(self) -> Iterator[str]:
        yield from (setting.label for setting in self.found)
        for task in self.tasks:
            yield from (task.name, *task.metrics)

    def draw(self, folder: Path, advance: Callable[[], object]) -> list[Drawn]:
        """Writes PNG and PDF of every figure into `folder`."""
        drawn = []
        for name, title in FIGURES.items():
            with style.settings(self.fonts):
                made = getattr(self, name)()
                if made:
                    figure, caption = made
                    style.save(figure, folder / name)
                    drawn.append(Drawn(name, title, caption, tuple(figure.get_size_inches())))
            advance()
        return drawn

    def training_losses(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"train/{task.name}/loss") for task in self.tasks]
        text = (
            f"Each task's unweighted training loss. {SMOOTHED} Where a task was not active, its line goes straight on "
            "to the next step at which it was."
        )
        return self._lines(panels, "loss", text, log=True)

    def total_loss(self) -> tuple[Figure, str] | None:
        text = (
            "The total training loss as each method computes it. Methods weight the losses differently, so the heights "
            f"of different methods can't be compared. {SMOOTHED}"
        )
        return self._lines([Panel("total loss", "train/total_loss")], "loss", text, log=True)

    def validation_losses(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"validation/{task.name}/loss") for task in self.tasks]
        if len(panels) > 1:
            panels.insert(0, Panel("mean of the tasks", "validation/mean_loss"))
        text = "Each task's loss on validation data, and the mean of the tasks."
        return self._lines(panels, "loss", text, log=True)

    def metrics(self) -> tuple[Figure, str] | None:
        panels = [Panel(column.heading, column.key) for column in overall_columns("validation", self.tasks)]
        panels += [
            Panel(f"{task.name} {metric} {ARROWS[way]}", f"validation/{task.name}/{metric}")
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

    def weights(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"weight/{task.name}") for task in self.tasks]
        constant = [s for s in self.found if all(self._is_one(c.y) for p in panels for c in s.curves(p.series))]
        moving = [s for s in self.found if s not in constant]
        names = ", ".join(s.label for s in constant[:8]) + (", …" if len(constant) > 8 else "")
        left_out = f"Not drawn, since their weights are 1 throughout (the grey line): {names}."
        text = f"The weight of each task's loss. {SMOOTHED} {left_out if moving and constant else ''}"
        if not moving:
            text = "The weight of each task's loss: 1 throughout, in every setting."
        made = self._lines(panels, "weight", text, log=True, only=moving or self.found[-1:])
        for axis in made[0].axes if made else []:
            axis.axhline(1.0, color=style.OTHERS, linewidth=0.8, zorder=1)
        return made

    @staticmethod
    def _is_one(values: Array) -> bool:
        return bool(np.all(np.isnan(values) | (values == 1.0)))

    def learning_rate(self) -> tuple[Figure, str] | None:
        trunk, heads = "learning_rate/trunk", "learning_rate/heads"
        runs = [run for setting in self.found for run in setting.runs]
        if any(self._differs(run.curves, trunk, heads) for run in runs):
            panels = [Panel("trunk", trunk), Panel("heads", heads)]
        else:
            panels = [Panel("trunk and heads", trunk)]
        alike = len({run.curves[key].y.tobytes() for run in runs for key in (trunk, heads) if key in run.curves}) == 1
        text = f"The learning rate{', the same in every run' if alike else ''}."
        return self._lines(panels, "learning rate", text, log=False, only=self.found[:1] if alike else None)

    @staticmethod
    def _differs(curves: dict[str, Curve], one: str, other: str) -> bool:
        return one in curves and other in curves and not np.array_equal(curves[one].y, curves[other].y, equal_nan=True)

    def cosines(self) -> tuple[Figure, str] | None:
        names = dict.fromkeys(k for s in self.found for r in s.runs for k in r.curves if k.startswith("cosine/"))
        panels = [Panel(" · ".join(name.split("/")[1:]), name) for name in names]
        text = (
            "The cosine between two tasks' gradients of the trunk, below 0 where they conflict; only where a method "
            f"computes it anyway. {SMOOTHED}"
        )
        made = self._lines(panels, "cosine", text, log=False)
        for axis in made[0].axes if made else []:
            axis.axhline(0, color="#444444", linewidth=0.6, zorder=1)
        return made

    def schedule(self) -> tuple[Figure, str] | None:
        strips = self._strips()
        if not strips:
            return None
        shown = strips[:STRIPS_SHOWN]
        names = style.wrapped_apart([task.name for task in self.tasks[:PANELS_SHOWN]], 20, 1)
        tasks = len(names)
        height = (0.3 + 0.12 * tasks) * len(shown) + 0.65
        figure, axes = style.new_figure(style.PAGE * 0.75, height, len(shown), 1, sharex=True)
        for axis, (label, activity, end) in zip(axes, shown, strict=True):
            place = (0, end, tasks, 0)
            image = axis.imshow(activity[:tasks], style.SHARES, aspect="auto", interpolation="none", extent=place)
            image.set_clim(0, 1)
            axis.set_yticks(np.arange(tasks) + 0.5, names)
            axis.set_title(style.wrapped(label, 76), loc="left")
            axis.grid(False)
            axis.hlines(np.arange(1, tasks), 0, end, color="white", linewidth=0.8)
            axis.tick_params(axis="y", length=0)
        style.horizontal(axes[-1], "step", end, whole=True)
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.45, aspect=28, pad=0.02)
        bar.set_label("share of the steps at which the task was active")
        more = f"{STRIPS_SHOWN} of {len(strips)} are shown. " if len(strips) > STRIPS_SHOWN else ""
        more += _first(tasks, len(self.tasks), "tasks")
        return figure, (
            f"Which tasks were active when: the share of steps, in {BINS} parts of the training, mean over seeds. "
            f"{more} Settings of the same activity share one strip; single-task baselines are left out."
        )

    def shares(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"share/{task.name}") for task in self.tasks]
        text = (
            "The share of a batch that is drawn for each task, where the schedule draws samples; each counts for its "
            f"task alone, and all alike, so that the share multiplies the task's weight. {SMOOTHED}"
        )
        return self._lines(panels, "share", text, log=False)

    def _strips(self) -> list[tuple[str, Array, float]]:
        """For each schedule: the labels of its settings, activity [tasks, bins], last step of all."""
        names = [f"active/{task.name}" for task in self.tasks]
        with_schedule = [s for s in self.found if not s.single and any(s.curves(name) for name in names)]
        end = max([1.0, *(c.x[-1] for s in with_schedule for name in names for c in s.curves(name))])
        strips: dict[bytes, tuple[list[str], Array]] = {}
        for setting in with_schedule:
            activity = np.array([self._activity(setting.curves(name), end) for name in names])
            labels, _ = strips.setdefault(activity.round(2).tobytes(), ([], activity))
            labels.append(setting.label)
        return [(", ".join(labels), activity, end) for labels, activity in strips.values()]

    @staticmethod
    def _activity(curves: list[Curve], end: float) -> Array:
        """One row of a strip [BINS]; NaN after the end of the training and for a task that the setting has not."""
        row = np.full(BINS, np.nan)
        if curves:
            made = band(curves, end)
            until = int(np.ceil(made.x[-1] / end * BINS - 0.5))
            row[:until] = np.interp((np.arange(until) + 0.5) * end / BINS, made.x, made.mean)
        return row

    def results(self) -> tuple[Figure, str] | None:
        """Rows of dots: every seed, and the mean, for each metric."""
        drawable = [(i, c) for i, c in enumerate(self.table.columns) if c != rank_column()]
        columns = sorted(drawable, key=lambda place: bool(place[1].group))[:PANELS_SHOWN]  # over all tasks first
        shown = list(range(len(self.found)))[:ROWS_SHOWN]
        if not columns:
            return None
        across = len(columns) if len(columns) <= 5 else 4
        rows = -(-len(columns) // across)
        height = rows * (0.16 * len(shown) + 0.6)
        figure, axes = style.new_figure(style.PAGE, height, rows, across, sharey=True)
        for axis in axes[len(columns) :]:
            axis.remove()
        for axis, (i, column) in zip(axes, columns, strict=False):
            self._dots(axis, i, column, shown)
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        for axis in axes[: len(columns) : across]:
            axis.set_yticks(shown, style.wrapped_apart([self.found[r].label for r in shown], 34, 1))
        more = _first(len(columns), len(drawable), "panels"), _first(len(shown), len(self.found), "settings")
        data = DATA["test" if any(c.key.startswith("test/") for _, c in columns) else "validation"]
        return figure, (
            f"Each metric on {data} at the best validation epoch: small dots are seeds, the large one is their mean, "
            "the bar goes from the lowest to the highest seed. The dashed line is the first row's mean, or 0 for Δm. "
            f"{' '.join(filter(None, more))}"
        )

    def _dots(self, axis: Axes, i: int, column: Column, shown: list[int]) -> None:
        numbers = {row: found for row in shown if (found := self._numbers(self.found[row], column))}
        colours = [self.looks[r].colour if self.looks[r].in_front else style.BEHIND for r in numbers]
        for (row, found), colour in zip(numbers.items(), colours, strict=True):
            axis.scatter(found, [row] * len(found), 4, color=colour, alpha=0.6, linewidths=0)
        if not numbers:
            style.empty(axis)
        lowest, highest = [min(n) for n in numbers.values()], [max(n) for n in numbers.values()]
        axis.hlines(list(numbers), lowest, highest, colours, alpha=0.6)
        axis.scatter([spread(n).mean for n in numbers.values()], list(numbers), 18, colours, linewidths=0, zorder=4)
        reference = self.table.rows[0][i].mean if column != delta_column() else 0.0
        if np.isfinite(reference):
            axis.axvline(reference, color="#444444", linewidth=0.6, linestyle=(0, (3, 2)), zorder=1)
        lines = [style.wrapped(line, 20, 1) for line in (column.group, column.heading) if line]
        axis.set_title("\n".join(lines), loc="left")
        axis.tick_params(axis="y", length=0)
        axis.locator_params(axis="x", nbins=2)
        axis.spines["left"].set_visible(False)

    def _numbers(self, setting: Setting, column: Column) -> list[float]:
        if column == delta_column():
            return deltas_of(setting, self.found, self.table.columns)
        return [number for number in setting.numbers(column.key) if np.isfinite(number)]

    def seeds(self) -> str:
        """What line and band are, for the caption."""
        fewest, most = min(s.seeds[0] for s in self.found), max(s.seeds[1] for s in self.found)
        if most == 1:
            return "One seed each (n = 1): the lines carry no information about noise."
        n = f"n = {most}" if fewest == most else f"n = {fewest} to {most}; no band where n = 1"
        behind = " Settings in grey have no band." if not all(look.in_front for look in self.looks) else ""
        return f"Line: mean over seeds; band: from the lowest to the highest seed ({n}).{behind}{self._lengths()}"

    def _lengths(self) -> str:
        def ends(setting: Setting) -> set[float]:
            return {c.x[-1] for run in setting.runs for key, c in run.curves.items() if key.startswith("train/")}

        if all(len(ends(setting)) <= 1 for setting in self.found):
            return ""
        return " A line is pale and has no band where some of its seeds have ended; it ends where more than half have."

    def _lines(
        self, panels: list[Panel], ylabel: str, text: str, *, log: bool, only: list[Setting] | None = None
    ) -> tuple[Figure, str] | None:
        """One panel per series, a line and a band per setting; the caption is `text` and what line and band are."""
        chosen = [i for i, s in enumerate(self.found) if only is None or s in only]
        recorded = {key for i in chosen for run in self.found[i].runs for key in run.curves}
        drawable = [p for p in panels if p.series in recorded]
        panels = drawable[:PANELS_SHOWN]
        if not panels:
            return None
        figure, axes, across = style.grid_of_panels([p.title for p in panels])
        drawn: set[int] = set()
        zeros = False
        for number, (panel, axis) in enumerate(zip(panels, axes, strict=True)):
            curves = {i: c for i in chosen if (c := self.found[i].curves(panel.series))}
            if not curves:
                style.empty(axis)
                axis.set_yticks([])
                continue
            end = max(1.0, *(c.x[-1] for found in curves.values() for c in found))
            bands = {i: band(found, end) for i, found in curves.items()}
            drawn |= set(bands)
            for i, made in bands.items():
                if self.looks[i].in_front:
                    self._line(axis, made, self.looks[i])
            behind = [np.column_stack([made.x, made.mean]) for i, made in bands.items() if not self.looks[i].in_front]
            axis.add_collection(LineCollection(behind, colors=style.OTHERS, linewidths=0.5, zorder=1.5))
            axis.autoscale_view()
            if log:
                zeros |= style.logarithmic(axis, np.concatenate([made.mean for made in bands.values()]))
            kind = next(iter(curves.values()))[0].axis
            style.horizontal(axis, kind, end, whole=number + across >= len(panels))
            axis.set_ylabel(ylabel if number % across == 0 else "")
        style.legend(figure, self.found, self.looks, drawn)
        more = [_first(len(panels), len(drawable), "panels"), ZEROS if zeros else ""]
        return figure, " ".join(filter(None, [text, *more, self.seeds()]))

    @staticmethod
    def _line(axis: Axes, made: Band, look: style.Look) -> None:
        options: Any = {"color": look.colour, "linewidth": 1.1, "zorder": 3}
        whole = made.whole
        point = "." if whole.sum() == 1 else ""
        axis.plot(made.x[whole], made.mean[whole], linestyle=look.dash, marker=point, **options)
        if not whole.all():
            rest = np.flatnonzero(~whole)
            beyond = slice(max(rest[0] - 1, 0), None)
            axis.plot(made.x[beyond], made.mean[beyond], linestyle=look.dash, alpha=0.4, **options)
        if made.n > 1:
            edges = made.x[whole], made.low[whole], made.high[whole]
            axis.fill_between(*edges, color=look.colour, alpha=0.15, linewidth=0, zorder=2)
