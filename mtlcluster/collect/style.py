"""How figures look: one colour per method everywhere, safe for the colour-blind, readable at a paper's column."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mtlcluster import printable
from mtlcluster.collect.fonts import FAMILY
from mtlcluster.collect.gather import Array
from mtlcluster.collect.settings import Setting
from mtlcluster.terminal import breadth

COLUMN, PAGE = 3.3, 6.9  # inches: one column of a paper and its whole width
DPI = 250
CHARACTER = 0.062  # inches, of a label
# Okabe and Ito's colours without yellow, which vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.3)), (0, (1, 1)), (0, (5, 1, 1, 1)))
EDGE = "#444444"
EQUAL, SINGLE = "#000000", "#808080"
OTHERS, BEHIND = "#C8C8C8", "#B4B4B4"  # lines and dots of what is not in front
SHARES = LinearSegmentedColormap.from_list("shares", ["#EEF1F4", "#6FAED6", "#08457E"])
SETTINGS_IN_COLOUR = 10  # with more, the best ones and the baselines stand out before the others in grey
BEST_IN_COLOUR = 6
DECADES = 12  # of a logarithmic axis, at most

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
    "text.parse_math": False,  # a name with a dollar sign is no formula
    "pdf.fonttype": 42,  # fonts as TrueType, as publishers ask
    "savefig.dpi": DPI,
}


@contextmanager
def settings(fonts: Sequence[str] = (FAMILY,)) -> Iterator[None]:
    """Figures that are made meanwhile look as these do, whatever the user's own settings are."""
    standard: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context({**standard, **RC, "font.family": list(fonts)}):
        yield


@dataclass(frozen=True)
class Look:
    colour: Any
    dash: Any
    in_front: bool  # has a colour, a band and an entry of its own in the legend


def looks(found: Sequence[Setting]) -> list[Look]:
    """One look per setting, in order. Settings of one method share its colour and differ in dashes and lightness.

    Where the grid holds one method only, each setting has a colour of its own.
    """
    in_front = _in_front(found)
    methods = {setting.method for setting in found}
    groups = [setting.method if len(methods) > 1 else setting.label for setting in found]
    coloured = sorted({g for g, s, front in zip(groups, found, in_front, strict=True) if front and not _grey(g, s)})
    seen: dict[str, int] = {}
    made = []
    for setting, group, front in zip(found, groups, in_front, strict=True):
        if not front:
            made.append(Look(OTHERS, "-", False))
            continue
        variant = seen[group] = seen.get(group, -1) + 1
        if _grey(group, setting):
            colour, offset = (SINGLE, 1) if setting.single else (EQUAL, 0)
        else:
            place = coloured.index(group)
            colour, offset = COLOURS[place % len(COLOURS)], place // len(COLOURS)
        lighter = _lighter(colour, 0.35 * (variant // len(DASHES)))
        made.append(Look(lighter, DASHES[(variant + offset) % len(DASHES)], True))
    return made


def _grey(group: str, setting: Setting) -> bool:
    return setting.baseline and group == setting.method


def _in_front(found: Sequence[Setting]) -> list[bool]:
    if len(found) <= SETTINGS_IN_COLOUR:
        return [True] * len(found)
    others = [i for i, setting in enumerate(found) if not setting.baseline]
    chosen = set(others[:BEST_IN_COLOUR])
    for kind in (True, False):
        chosen |= set([i for i, s in enumerate(found) if s.baseline and s.single is kind][:1])
    return [i in chosen for i in range(len(found))]


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    return tuple(part + (1 - part) * min(share, 0.7) for part in to_rgb(colour))


def new_figure(width: float, height: float, rows: int, across: int, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of that many inches and its axes, row by row."""
    layout = ConstrainedLayoutEngine(h_pad=0.03, w_pad=0.03, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=(width, height), layout=layout)
    return figure, figure.subplots(rows, across, squeeze=False, **options).flatten().tolist()


def grid_of_panels(titles: Sequence[str]) -> tuple[Figure, list[Axes], int]:
    """One axis per title, and how many stand in a row: at most four, a single one at the width of a column."""
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


def wrapped(text: str, room: int, lines: int = 2) -> str:
    """`text` in at most that many lines of `room` characters; what is too long loses its middle, since ends differ."""
    text = printable.line(text)
    room = max(1, room * len(text) // max(1, breadth(text)))
    if len(text) > room * lines:
        tail = room * lines // 2
        text = f"{text[: room * lines - tail - 1]}…{text[-tail:]}"
    found = textwrap.wrap(text, room)
    if len(found) > lines:
        found = [text[i : i + room] for i in range(0, len(text), room)]
    return "\n".join(found)


def wrapped_apart(texts: Sequence[str], room: int, lines: int) -> list[str]:
    """Each wrapped; where some then look alike, of those that are too long only the words in which they differ, and
    where that is too long as well, behind their number.
    """
    made = [wrapped(text, room, lines) for text in texts]
    long = {i: text for i, (text, short) in enumerate(zip(texts, made, strict=True)) if "…" in short}
    for number in ("", "{}: "):
        if len({*made}) < len({*texts}):
            for i, text in long.items():
                made[i] = wrapped(number.format(i + 1) + _difference(text, list(long.values())), room, lines)
    return made


def _difference(text: str, others: Sequence[str]) -> str:
    """The words of `text` in which one of the others differs, long ones from shortly before that place on."""
    kept = []
    for word, *beside in zip_longest(*(one.split(" ") for one in (text, *others)), fillvalue=""):
        same = max((_same(word, other) for other in beside if other != word), default=None)
        if same is not None:
            kept.append(word if same < 16 else f"…{word[same - 8 :]}")
    return f"… {' '.join(kept)}"


def _same(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def logarithmic(axis: Axes, values: Array) -> bool:
    """Makes the vertical axis logarithmic, with ticks that read 0.2, 0.5, 1, 2 …, where `values` are spread so.

    Where some are 0, or so small that the others would be one line, it is linear below a dotted line and ends at 0;
    returns whether that is so. With negative values it stays as it is.
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


def empty(axis: Axes) -> None:
    """Says why nothing is there."""
    axis.text(0.5, 0.5, "no finite value", transform=axis.transAxes, ha="center", va="center", color=EDGE)
    axis.set_xticks([])
    axis.grid(False)


def fit_to_late_values(axis: Axes, early: float) -> None:
    """Fits the vertical axis to the lines' values beyond the share `early` of the horizontal axis."""
    start = early * axis.get_xlim()[1]
    behind = [lines for lines in axis.collections if isinstance(lines, LineCollection)]
    drawn = [np.asarray(line.get_xydata(), dtype=float) for line in axis.get_lines()]
    drawn += [np.asarray(path.vertices, dtype=float) for lines in behind for path in lines.get_paths()]
    late = np.concatenate([np.empty(0), *(points[points[:, 0] > start, 1] for points in drawn)])
    if len(late) and np.ptp(late) > 0:
        axis.set_ylim(late.min() - 0.06 * np.ptp(late), late.max() + 0.06 * np.ptp(late))


def horizontal(axis: Axes, kind: str, end: float, whole: bool) -> None:
    axis.set_xlim(0, end)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    thousands = end >= 10_000
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if thousands and x else f"{x:g}"))
    axis.set_xlabel(kind if whole else "")


def legend(figure: Figure, found: Sequence[Setting], made: Sequence[Look], drawn: set[int]) -> None:
    """Below the panels and outside of them: the settings in front that were drawn, and the others as one entry."""
    if len(drawn) < 2:
        return
    front = [i for i in sorted(drawn) if made[i].in_front]
    handles = [Line2D([], [], color=made[i].colour, linestyle=made[i].dash, linewidth=1.4) for i in front]
    shown = wrapped_apart([setting.label for setting in found], 44, 3)
    labels = [shown[i] for i in front]
    if behind := len(drawn) - len(front):
        handles.append(Line2D([], [], color=OTHERS, linewidth=0.8))
        labels.append(f"{behind} other settings")
    lines = [label.split("\n") for label in labels]
    longest = max(breadth(line) for label in lines for line in label)
    across = max(1, int(figure.get_figwidth() / (CHARACTER * longest + 0.5)))
    rows = math.ceil(len(labels) / across)
    columns = math.ceil(len(labels) / rows)
    figure.set_figheight(figure.get_figheight() + rows * max(map(len, lines)) * 0.145 + 0.1)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, columnspacing=1.4, labelspacing=0.35)


def save(figure: Figure, stem: Path) -> None:
    """As PNG and PDF, the same bytes for the same figure."""
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    # The layout has been found by now; going around savefig keeps it from being sought again, which takes long.
    figure.set_layout_engine("none")
    nameless = {"CreationDate": None, "Creator": None, "Producer": None}
    FigureCanvasPdf(figure).print_pdf(stem.with_suffix(".pdf"), metadata=nameless)  # type: ignore[no-untyped-call]
