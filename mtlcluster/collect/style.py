"""The style of all figures: sizes that fit a paper's column, axes, legend, files."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mtlcluster.collect.colours import OTHERS, Look
from mtlcluster.collect.fonts import FAMILY
from mtlcluster.collect.labels import wrapped_apart
from mtlcluster.collect.read_histories import Array
from mtlcluster.collect.settings import Setting
from mtlcluster.terminal import breadth

COLUMN, PAGE = 3.3, 6.9  # inches: one column of a paper and its whole width
DPI = 250
CHARACTER = 0.062  # inches: the mean width of a character of a label
EDGE = "#444444"
SHARES = LinearSegmentedColormap.from_list("shares", ["#EEF1F4", "#6FAED6", "#08457E"])
DECADES = 12  # the most that a logarithmic axis shows
PANELS_SHOWN = 24  # the layout of more panels takes minutes, and nobody looks at hundreds

RC: Any = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": EDGE,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.color": EDGE,
    "ytick.color": EDGE,
    "xtick.labelcolor": "#000000",
    "ytick.labelcolor": "#000000",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "text.parse_math": False,  # a dollar sign in a name does not begin a formula
    "pdf.fonttype": 42,  # fonts as TrueType, as publishers ask
    "savefig.dpi": DPI,
}


@contextmanager
def use_style(fonts: Sequence[str] = (FAMILY,)) -> Iterator[None]:
    """Gives this style to the figures made in the `with` block. The user's own settings of matplotlib do not count."""
    standard: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context({**standard, **RC, "font.family": list(fonts)}):
        yield


def new_figure(width: float, height: float, rows: int, across: int, **options: Any) -> tuple[Figure, list[Axes]]:
    """Makes a figure of `rows` times `across` axes. Returns it and its axes, row by row. Sizes are in inches."""
    layout = ConstrainedLayoutEngine(h_pad=0.03, w_pad=0.03, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=(width, height), layout=layout)
    return figure, figure.subplots(rows, across, squeeze=False, **options).flatten().tolist()


def grid_of_panels(titles: Sequence[str]) -> tuple[Figure, list[Axes], int]:
    """Makes a figure with an axis for each title, at most four in a row. A single axis is as wide as a column.

    Returns:
        The figure, its axes, and the number of axes in a row.
    """
    rows = math.ceil(len(titles) / 4)
    across = math.ceil(len(titles) / rows)
    width = COLUMN if len(titles) == 1 else PAGE * min(1.0, (across + 1) / 4)
    figure, axes = new_figure(width, (1.45 if len(titles) > 1 else 1.9) * rows, rows, across)
    room = 46 if len(titles) == 1 else int((width / across - 0.35) / CHARACTER)
    for axis, title in zip(axes, wrapped_apart(titles, room, 2), strict=False):
        axis.set_title(title, loc="left")
    for axis in axes[len(titles) :]:
        axis.remove()
    return figure, axes[: len(titles)], across


def make_logarithmic(axis: Axes, values: Array) -> bool:
    """Makes the vertical axis logarithmic if `values` span enough, with ticks such as 0.2, 0.5, 1, 2.

    If values are 0, or more than DECADES decades below the largest, the axis is linear below a dotted line and ends at
    0. If a value is negative, the whole axis stays linear.

    Returns:
        True if the axis goes down to 0.
    """
    positive = values[values > 0]
    if not len(positive) or values.min() < 0 or positive.max() <= 5 * positive.min():
        return False
    floor = max(positive.min(), positive.max() / 10**DECADES)
    to_zero = bool(values.min() < floor)
    if to_zero:
        low, high = floor, axis.dataLim.y1 * (axis.dataLim.y1 / floor) ** 0.05
        axis.set_yscale("symlog", linthresh=low, linscale=max(0.3, 0.12 * math.log10(high / low)))
        axis.set_ylim(0, high)
        axis.axhline(low, color=EDGE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    else:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
    ticks = LogLocator(subs=subs)
    zero = FixedLocator([0.0, *(tick for tick in ticks.tick_values(low, high) if tick >= low)])
    axis.yaxis.set_major_locator(zero if to_zero else ticks)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    return to_zero


def mark_empty(axis: Axes) -> None:
    """Writes "no finite value" into an axis without lines."""
    axis.text(0.5, 0.5, "no finite value", transform=axis.transAxes, ha="center", va="center", color=EDGE)
    axis.set_xticks([])
    axis.grid(False)


def fit_to_late_values(axis: Axes, early: float) -> None:
    """Fits the vertical axis to the lines' later values, so that a steep beginning does not flatten the rest.

    Args:
        axis: The axis, with its lines.
        early: The share of the horizontal axis, from 0 to 1, whose values are left out.
    """
    start = early * axis.get_xlim()[1]
    behind = [lines for lines in axis.collections if isinstance(lines, LineCollection)]
    drawn = [np.asarray(line.get_xydata(), dtype=float) for line in axis.get_lines()]
    drawn += [np.asarray(path.vertices, dtype=float) for lines in behind for path in lines.get_paths()]
    late = np.concatenate([np.empty(0), *(points[points[:, 0] > start, 1] for points in drawn)])
    if len(late) and np.ptp(late) > 0:
        axis.set_ylim(late.min() - 0.06 * np.ptp(late), late.max() + 0.06 * np.ptp(late))


def set_horizontal_axis(axis: Axes, label: str, end: float) -> None:
    """Makes the horizontal axis go from 0 to `end`, with whole numbers. From 10,000 on they are written as 10k."""
    axis.set_xlim(0, end)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    thousands = end >= 10_000
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if thousands and x else f"{x:g}"))
    axis.set_xlabel(label)


def add_legend(figure: Figure, settings: Sequence[Setting], looks: Sequence[Look], drawn: set[int]) -> None:
    """Puts the legend below the panels: an entry for each setting in front, and one for all others.

    Args:
        figure: The figure.
        settings: All settings.
        looks: Their looks.
        drawn: The numbers of the settings that were drawn.
    """
    if len(drawn) < 2:
        return
    front = [i for i in sorted(drawn) if looks[i].in_front]
    handles = [Line2D([], [], color=looks[i].colour, linestyle=looks[i].dash, linewidth=1.4) for i in front]
    shown = wrapped_apart([setting.label for setting in settings], 44, 3)
    labels = [shown[i] for i in front]
    if behind := len(drawn) - len(front):
        handles.append(Line2D([], [], color=OTHERS, linewidth=0.8))
        labels.append(f"{behind} other settings")
    legend_below(figure, handles, labels)


def dot(colour: Any, mark: str) -> Line2D:
    """A mark for a legend."""
    return Line2D([], [], color=colour, marker=mark, markersize=4, linewidth=0)


def legend_below(figure: Figure, handles: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Puts a legend below the panels, in as many columns as fit, and makes the figure higher for it.

    A label may have several lines.
    """
    lines = [label.split("\n") for label in labels]
    longest = max(breadth(line) for label in lines for line in label)
    across = max(1, int(figure.get_figwidth() / (CHARACTER * longest + 0.5)))
    rows = math.ceil(len(labels) / across)
    columns = math.ceil(len(labels) / rows)
    figure.set_figheight(figure.get_figheight() + rows * max(map(len, lines)) * 0.145 + 0.1)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, columnspacing=1.4, labelspacing=0.35)


def save(figure: Figure, stem: Path) -> None:
    """Writes the figure as PNG and PDF. The same figure gives the same bytes."""
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    # The layout has been computed by now. savefig would compute it again, which takes long.
    figure.set_layout_engine("none")
    nameless = {"CreationDate": None, "Creator": None, "Producer": None}
    FigureCanvasPdf(figure).print_pdf(stem.with_suffix(".pdf"), metadata=nameless)  # type: ignore[no-untyped-call]


def first_shown_note(shown: int, total: int, what: str) -> str:
    """A sentence for the caption: how many of all panels (or settings, or tasks) are shown. Empty if all are."""
    if shown >= total:
        return ""
    return f"The first {shown} of {total} {what} are shown; the tables have every task and setting."
