"""The figure of the schedules: a strip for each, which shows when each task was active."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mtlcluster.collect import style
from mtlcluster.collect.labels import wrapped, wrapped_apart
from mtlcluster.collect.read_histories import Array, Curve, TaskInfo
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import BINS, band
from mtlcluster.sweep import series

STRIPS_SHOWN = 10
ROOM = 76  # characters of a title


@dataclass(frozen=True)
class Strip:
    """The activity of one schedule.

    Attributes:
        labels: The labels of the settings with this activity.
        activity: The share of the steps [T, BINS]; NaN after the end of the training and for a task that is missing.
    """

    labels: list[str]
    activity: Array


def draw_strips(settings: Sequence[Setting], tasks: Sequence[TaskInfo]) -> tuple[Figure, str] | None:
    """Draws a strip for each schedule. Returns the figure and the end of its caption; None where there is none."""
    strips, end = _strips(settings, [series.active(task.name) for task in tasks])
    if not strips:
        return None
    shown = strips[:STRIPS_SHOWN]
    names = wrapped_apart([task.name for task in tasks[: style.PANELS_SHOWN]], 20, 1)
    height = (0.35 + 0.14 * len(names)) * len(shown) + 0.75
    figure, axes = style.new_figure(style.PAGE * 0.75, height, len(shown), 1, sharex=True)
    images = [_draw_strip(axis, strip, names, end) for axis, strip in zip(axes, shown, strict=True)]
    style.set_horizontal_axis(axes[-1], "step", end)
    bar = figure.colorbar(images[-1], ax=axes, location="bottom", shrink=0.45, aspect=28, pad=0.02)
    bar.set_label("share of the steps at which the task was active")
    more = f"{STRIPS_SHOWN} of {len(strips)} are shown. " if len(strips) > STRIPS_SHOWN else ""
    return figure, more + style.first_shown_note(len(names), len(tasks), "tasks")


def _draw_strip(axis: Axes, strip: Strip, names: Sequence[str], end: float) -> AxesImage:
    tasks = len(names)
    place = (0, end, tasks, 0)
    image = axis.imshow(strip.activity[:tasks], style.SHARES, aspect="auto", interpolation="none", extent=place)
    image.set_clim(0, 1)
    axis.set_yticks(np.arange(tasks) + 0.5, names)
    axis.set_title(_title(strip.labels), loc="left")
    axis.grid(False)
    axis.hlines(np.arange(1, tasks), 0, end, color="white", linewidth=0.8)
    axis.tick_params(axis="y", length=0)
    return image


def _title(labels: Sequence[str]) -> str:
    """As many labels as have room in two lines; the others are counted."""
    lengths = np.cumsum([len(label) + 2 for label in labels])
    shown = max(1, int((lengths <= 2 * ROOM).sum()))
    more = len(labels) - shown
    return wrapped(", ".join(labels[:shown]), ROOM) + (f"\nand {more} other settings" if more else "")


def _strips(settings: Sequence[Setting], names: Sequence[str]) -> tuple[list[Strip], float]:
    """The strips, and the last step of all. names: the series of each task."""
    with_schedule = [s for s in settings if not s.single and any(s.curves(name) for name in names)]
    end = max([1.0, *(c.x[-1] for s in with_schedule for name in names for c in s.curves(name))])
    strips: dict[bytes, Strip] = {}
    for setting in with_schedule:
        activity = np.array([_activity(setting.curves(name), end) for name in names])
        strips.setdefault(activity.round(2).tobytes(), Strip([], activity)).labels.append(setting.label)
    return list(strips.values()), end


def _activity(curves: Sequence[Curve], end: float) -> Array:
    """One row of a strip [BINS]."""
    row = np.full(BINS, np.nan)
    if curves:
        made = band(curves, end)
        until = int(np.ceil(made.x[-1] / end * BINS - 0.5))
        row[:until] = np.interp((np.arange(until) + 0.5) * end / BINS, made.x, made.mean)
    return row
