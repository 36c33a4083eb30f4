"""The figures: each says in its caption what it shows, and is None where the runs recorded nothing for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.gather import Array, Curve, Task
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import BINS, Band, band, spread
from mtlcluster.collect.tables import ARROWS, DATA, Column, Table, delta_column, deltas_of, rank_column

SMOOTHED = f"Each point is a mean over 1/{BINS} of the training, or over what was recorded in one go if that is longer."
FIGURES = {     # in the order of the page; each is a method of Figures
    "results": "Results",
    "metrics": "Metrics on validation data",
    "validation_losses": "Validation losses",
    "training_losses": "Training losses",
    "total_loss": "Total training loss",
    "weights": "Loss weights",
    "schedule": "Schedule",
    "cosines": "Cosines between task gradients",
    "learning_rate": "Learning rate",
}
PAIRS_SHOWN = 12
ROWS_SHOWN = 40
STRIPS_SHOWN = 12


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

    def draw(self, folder: Path, advance: Callable[[], object]) -> list[Drawn]:
        """Writes PNG and PDF of every figure into `folder`."""
        drawn = []
        for name, title in FIGURES.items():
            with mpl.rc_context(style.RC):
                made = getattr(self, name)()
                if made:
                    figure, caption = made
                    style.save(figure, folder / name)
                    drawn.append(Drawn(name, title, caption, tuple(figure.get_size_inches())))
            advance()
        return drawn

    def training_losses(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"train/{task.name}/loss") for task in self.tasks]
        figure = self._lines(panels, "loss", log=True)
        gaps = "Where a task was not active, its line goes straight on to the next step at which it was."
        return figure and (figure, f"Each task's unweighted training loss. {SMOOTHED} {gaps} {self.seeds()}")

    def total_loss(self) -> tuple[Figure, str] | None:
        figure = self._lines([Panel("total loss", "train/total_loss")], "loss", log=True)
        scales = "Methods weight the losses differently, so the heights of different methods can't be compared."
        return figure and (figure, f"The total training loss as each method computes it. {scales} {SMOOTHED} {self.seeds()}")

    def validation_losses(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"validation/{task.name}/loss") for task in self.tasks]
        if len(panels) > 1:
            panels.append(Panel("mean of the tasks", "validation/mean_loss"))
        figure = self._lines(panels, "loss", log=True)
        return figure and (figure, f"Each task's loss on validation data, and the mean of the tasks. {self.seeds()}")

    def metrics(self) -> tuple[Figure, str] | None:
        panels = [
            Panel(f"{task.name} {metric} {ARROWS[way]}", f"validation/{task.name}/{metric}")
            for task in self.tasks
            for metric, way in task.metrics.items()
        ]
        figure = self._lines(panels, "", log=False)
        arrows = "The arrow tells which direction is better."
        return figure and (figure, f"Each task's metrics on validation data. {arrows} {self.seeds()}")

    def weights(self) -> tuple[Figure, str] | None:
        panels = [Panel(task.name, f"weight/{task.name}") for task in self.tasks]
        constant = [s for s in self.found if all(self._is_one(c.y) for p in panels for c in s.curves(p.series))]
        moving = [s for s in self.found if s not in constant]
        figure = self._lines(panels, "weight", log=True, only=moving or None)
        if not figure:
            return None
        for axis in figure.axes if moving else []:
            axis.axhline(1.0, color=style.OTHERS, linewidth=0.8, zorder=1)
        names = ", ".join(s.label for s in constant[:8]) + (", …" if len(constant) > 8 else "")
        left_out = f"Not drawn, since their weights are 1 throughout (the grey line): {names}." if moving and constant else ""
        return figure, f"The weight of each task's loss. {SMOOTHED} {left_out} {self.seeds()}"

    @staticmethod
    def _is_one(values: Array) -> bool:
        return bool(np.all(np.isnan(values) | (values == 1.0)))

    def learning_rate(self) -> tuple[Figure, str] | None:
        panels = [Panel("trunk", "learning_rate/trunk")]
        if any(self._differs(run.curves, "learning_rate/trunk", "learning_rate/heads") for s in self.found for run in s.runs):
            panels.append(Panel("heads", "learning_rate/heads"))
        figure = self._lines(panels if len(panels) > 1 else [Panel("learning rate", panels[0].series)], "", log=False)
        return figure and (figure, f"The learning rate{' of trunk and heads' if len(panels) > 1 else ''}. {self.seeds()}")

    @staticmethod
    def _differs(curves: dict[str, Curve], one: str, other: str) -> bool:
        return one in curves and other in curves and not np.array_equal(curves[one].y, curves[other].y, equal_nan=True)

    def cosines(self) -> tuple[Figure, str] | None:
        names = dict.fromkeys(k for s in self.found for r in s.runs for k in r.curves if k.startswith("cosine/"))
        panels = [Panel(" · ".join(name.split("/")[1:]), name) for name in list(names)[:PAIRS_SHOWN]]
        figure = self._lines(panels, "cosine", log=False)
        if not figure:
            return None
        for axis in figure.axes:
            axis.axhline(0, color="#444444", linewidth=0.6, zorder=1)
        more = f"The first {PAIRS_SHOWN} of {len(names)} pairs are shown." if len(names) > PAIRS_SHOWN else ""
        text = "The cosine between two tasks' gradients of the trunk, below 0 where they conflict; only where a method computes it."
        return figure, f"{text} {more} {SMOOTHED} {self.seeds()}"

    def schedule(self) -> tuple[Figure, str] | None:
        strips = self._strips()
        if not strips:
            return None
        shown = strips[:STRIPS_SHOWN]
        tasks = len(self.tasks)
        size = (style.PAGE * 0.75, sum(0.3 + 0.12 * tasks for _ in shown) + 0.65)
        figure = Figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(h_pad=0.02, hspace=0.04)
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False).flatten().tolist()
        for axis, (label, activity, end) in zip(axes, shown, strict=True):
            image = axis.imshow(activity, cmap="cividis_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
                                extent=(0, end, tasks, 0))
            axis.set_yticks(np.arange(tasks) + 0.5, [style.wrapped(t.name, 20, 1) for t in self.tasks])
            axis.set_title(style.wrapped(label, 70), loc="left")
            axis.grid(False)
            axis.hlines(np.arange(1, tasks), 0, end, color="white", linewidth=0.8)
            axis.tick_params(axis="y", length=0)
        style.horizontal(axes[-1], "step", max(end for *_, end in shown), whole=True)
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.45, aspect=28, pad=0.02)
        bar.set_label("share of the steps at which the task was active")
        more = f"{STRIPS_SHOWN} of {len(strips)} are shown. " if len(strips) > STRIPS_SHOWN else ""
        return figure, (
            f"Which tasks were active when: the share of steps, in {BINS} parts of the training, mean over seeds. "
            f"{more}Settings that train every task at every step share one strip; single-task baselines are left out."
        )

    def _strips(self) -> list[tuple[str, Array, float]]:
        """For each setting with a schedule of its own: label, activity [tasks, bins], last step."""
        names = [f"active/{task.name}" for task in self.tasks]
        with_schedule = [s for s in self.found if not s.single and any(s.curves(name) for name in names)]
        end = max((c.x[-1] for s in with_schedule for name in names for c in s.curves(name)), default=1.0)
        strips, always = [], []
        for setting in with_schedule:
            activity = np.full((len(names), BINS), np.nan)
            for row, name in enumerate(names):
                if curves := setting.curves(name):
                    made = band(curves, end)
                    activity[row] = np.interp((np.arange(BINS) + 0.5) * end / BINS, made.x, made.mean)
                    activity[row, np.arange(BINS) * end / BINS >= made.x[-1]] = np.nan
            if np.all(np.isnan(activity) | (activity > 0.999)):
                always.append((setting.label, activity))
            else:
                strips.append((setting.label, activity, end))
        if always:
            label = always[0][0] if len(always) == 1 else ", ".join(name for name, _ in always)
            longest = max((activity for _, activity in always), key=lambda a: int(np.isfinite(a).sum()))
            strips.insert(0, (label, longest, end))
        return strips

    def results(self) -> tuple[Figure, str] | None:
        """Rows of dots: every seed, and the mean, for each metric."""
        columns = [(i, c) for i, c in enumerate(self.table.columns) if c != rank_column()]
        shown = list(range(len(self.found)))[:ROWS_SHOWN]
        if not columns:
            return None
        across = min(4, len(columns))
        rows = -(-len(columns) // across)
        figure = Figure(figsize=(style.PAGE, rows * (0.16 * len(shown) + 0.45) + 0.1), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.03, w_pad=0.02, wspace=0.02, hspace=0.04)
        axes = figure.subplots(rows, across, squeeze=False, sharey=True).flatten().tolist()
        for axis in axes[len(columns) :]:
            axis.remove()
        for axis, (i, column) in zip(axes, columns, strict=False):
            self._dots(axis, i, column, shown)
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        for axis in axes[: len(columns) : across]:
            axis.set_yticks(range(len(shown)), [style.wrapped(self.found[r].label, 30, 1) for r in shown])
        more = f"The first {ROWS_SHOWN} of {len(self.found)} settings are shown; the table has all. " if len(self.found) > ROWS_SHOWN else ""
        data = DATA["test" if columns[0][1].key.startswith("test/") else "validation"]
        return figure, (
            f"Each metric on {data} at the best validation epoch: small dots are seeds, the large one is their mean, the "
            f"bar goes from the lowest to the highest seed. The dashed line is the first row's mean. {more}"
        )

    def _dots(self, axis: Axes, i: int, column: Column, shown: list[int]) -> None:
        for row in shown:
            setting, look = self.found[row], self.looks[row]
            numbers = self._numbers(setting, column)
            if numbers:
                colour = look.colour if look.in_front else "#8C8C8C"
                axis.plot([min(numbers), max(numbers)], [row, row], color=colour, linewidth=1.0, alpha=0.6)
                axis.plot(numbers, [row] * len(numbers), ".", color=colour, markersize=3, alpha=0.6)
                axis.plot(spread(numbers).mean, row, "o", color=colour, markersize=4.2, zorder=4)
        reference = self.table.rows[0][i].mean if column != delta_column() else 0.0
        if np.isfinite(reference):
            axis.axvline(reference, color="#444444", linewidth=0.6, linestyle=(0, (3, 2)), zorder=1)
        axis.set_title(style.wrapped(f"{column.group} {column.heading}".strip(), 26), loc="left")
        axis.tick_params(axis="y", length=0)
        axis.locator_params(axis="x", nbins=4)
        axis.spines["left"].set_visible(False)

    def _numbers(self, setting: Setting, column: Column) -> list[float]:
        if column == delta_column():
            return deltas_of(setting, self.found, self.table.columns)
        return setting.numbers(column.key)

    def seeds(self) -> str:
        """What line and band are, for the caption."""
        fewest, most = min(s.seeds[0] for s in self.found), max(s.seeds[1] for s in self.found)
        if most == 1:
            return "One seed each (n = 1): the lines carry no information about noise."
        n = f"n = {most}" if fewest == most else f"n = {fewest} to {most}; no band where n = 1"
        behind = " Settings in grey have no band." if not all(look.in_front for look in self.looks) else ""
        return f"Line: mean over seeds; band: from the lowest to the highest seed ({n}).{behind}{self._lengths()}"

    def _lengths(self) -> str:
        ends = [{run.curves[k].x[-1] for run in s.runs for k in run.curves if k.startswith("train/")} for s in self.found]
        if all(len(places) <= 1 for places in ends):
            return ""
        return " A line is pale and without a band where some of its seeds have ended, and ends where more than half have."

    def _lines(self, panels: list[Panel], ylabel: str, *, log: bool, only: list[Setting] | None = None) -> Figure | None:
        chosen = [i for i, s in enumerate(self.found) if only is None or s in only]
        panels = [p for p in panels if any(self.found[i].curves(p.series) for i in chosen)]
        if not panels:
            return None
        figure, axes, across = style.grid_of_panels([p.title for p in panels])
        drawn: set[int] = set()
        for number, (panel, axis) in enumerate(zip(panels, axes, strict=True)):
            curves = {i: c for i in chosen if (c := self.found[i].curves(panel.series))}
            end = max(c.x[-1] for found in curves.values() for c in found)
            bands = {i: band(found, end) for i, found in curves.items()}
            drawn |= set(bands)
            for i, made in bands.items():
                self._line(axis, made, self.looks[i])
            means = np.concatenate([made.mean for made in bands.values()])
            if log and means.min() > 0 and means.max() / means.min() > 5:
                style.logarithmic(axis)
            kind = next(iter(curves.values()))[0].axis
            style.horizontal(axis, kind, end, whole=number + across >= len(panels))
            axis.set_ylabel(ylabel if number % across == 0 else "")
        style.legend(figure, self.found, self.looks, drawn)
        return figure

    @staticmethod
    def _line(axis: Axes, made: Band, look: style.Look) -> None:
        options = {"color": look.colour, "linewidth": look.width, "zorder": look.order}
        whole = made.whole
        axis.plot(made.x[whole], made.mean[whole], linestyle=look.dash, **options,
                  marker="." if whole.sum() == 1 else "", markersize=4)
        if not whole.all():
            rest = np.flatnonzero(~whole)
            beyond = slice(max(rest[0] - 1, 0), None)
            axis.plot(made.x[beyond], made.mean[beyond], linestyle=look.dash, alpha=0.4, **options)
        if made.n > 1 and look.in_front:
            axis.fill_between(made.x[whole], made.low[whole], made.high[whole], color=look.colour, alpha=0.15, linewidth=0,
                              zorder=look.order - 1)
