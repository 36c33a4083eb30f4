"""The figure of the results: a panel for each column of the table, with a row of dots for each setting."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.colours import BEHIND, Look
from mtlcluster.collect.columns import DELTA_M
from mtlcluster.collect.labels import wrapped, wrapped_apart
from mtlcluster.collect.statistics import spread
from mtlcluster.collect.tables import Table
from mtlcluster.collect.verdict.result import Verdict
from mtlcluster.sweep import series

ROWS_SHOWN = 40


def baseline_lines(verdict: Verdict) -> dict[str, float]:
    """By column the value of the verdict's baseline, the ONE that every value of a task is relative to."""
    found = {DELTA_M: 0.0}
    for task, baseline in verdict.baseline.items():
        found |= {series.evaluated(verdict.data, metric, task): mean for metric, mean in baseline.mean.items()}
    return found


def draw_dots(table: Table, looks: Sequence[Look], baseline: Mapping[str, float]) -> tuple[Figure, str] | None:
    """Draws every seed, and the mean, for each metric.

    Args:
        table: The results.
        looks: The looks of its settings.
        baseline: By the key of a column the value that its dashed line marks.

    Returns:
        The figure, and the sentences about what is left out. None where there is nothing to draw.
    """
    drawable = [i for i, column in enumerate(table.columns) if column.over_seeds]
    places = sorted(drawable, key=lambda i: bool(table.columns[i].group))[: style.PANELS_SHOWN]  # first: over all tasks
    rows = sorted(range(len(table.settings)), key=lambda row: not looks[row].in_front)[:ROWS_SHOWN]
    if len(table.settings) <= ROWS_SHOWN:
        rows = list(range(len(table.settings)))
    labels = wrapped_apart([setting.label for setting in table.settings], 34, 1)
    if not places:
        return None
    across = len(places) if len(places) <= 5 else 4
    down = -(-len(places) // across)
    figure, axes = style.new_figure(style.PAGE, down * (0.16 * len(rows) + 0.6), down, across, sharey=True)
    for axis in axes[len(places) :]:
        axis.remove()
    for axis, place in zip(axes, places, strict=False):
        _draw_column(axis, table, place, rows, looks)
        if table.columns[place].key in baseline:
            line = baseline[table.columns[place].key]
            axis.axvline(line, color=style.EDGE, linewidth=0.6, linestyle=(0, (3, 2)), zorder=1)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    for axis in axes[: len(places) : across]:
        axis.set_yticks(range(len(rows)), [labels[row] for row in rows])
    notes = (
        style.first_shown_note(len(places), len(drawable), "panels"),
        _settings_note(len(rows), len(table.settings)),
    )
    return figure, " ".join(filter(None, notes))


def _settings_note(shown: int, total: int) -> str:
    if shown == total:
        return ""
    return f"{shown} of {total} settings are shown, first those in colour; the tables have every task and setting."


def _draw_column(axis: Axes, table: Table, place: int, rows: list[int], looks: Sequence[Look]) -> None:
    column = table.columns[place]
    numbers: dict[int, list[float]] = {}
    for height, row in enumerate(rows):
        if finite := [n for n in column.numbers(table.settings[row], table.settings) if np.isfinite(n)]:
            numbers[height] = finite
    colours = [looks[rows[height]].colour if looks[rows[height]].in_front else BEHIND for height in numbers]
    for (height, found), colour in zip(numbers.items(), colours, strict=True):
        axis.scatter(found, [height] * len(found), 4, color=colour, alpha=0.6, linewidths=0)
    if not numbers:
        style.mark_empty(axis)
    lowest, highest = [min(n) for n in numbers.values()], [max(n) for n in numbers.values()]
    axis.hlines(list(numbers), lowest, highest, colours, alpha=0.6)
    axis.scatter([spread(n).mean for n in numbers.values()], list(numbers), 18, colours, linewidths=0, zorder=4)
    lines = [wrapped(line, 20, 1) for line in (column.group, column.heading) if line]
    axis.set_title("\n".join(lines), loc="left")
    axis.tick_params(axis="y", length=0)
    axis.locator_params(axis="x", nbins=2)
    axis.spines["left"].set_visible(False)
