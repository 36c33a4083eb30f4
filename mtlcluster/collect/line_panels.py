"""Draws a figure of panels. A panel shows one series: for each setting a line (mean over seeds) and a band."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.colours import OTHERS, Look
from mtlcluster.collect.read_histories import Curve
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import Band, band
from mtlcluster.collect.style import PANELS_SHOWN
from mtlcluster.sweep.series import kind

ZEROS = "Below the dotted line, a logarithmic axis is linear down to 0."


@dataclass(frozen=True)
class Panel:
    """One panel: its title, and the name of the series that it shows."""

    title: str
    series: str


def draw_panels(
    settings: Sequence[Setting],
    looks: Sequence[Look],
    panels: Sequence[Panel],
    ylabel: str,
    *,
    log: bool,
    only: Sequence[Setting] | None = None,
) -> tuple[Figure, str] | None:
    """Draws the panels whose series was recorded.

    Args:
        settings: All settings of the report.
        looks: Their looks.
        panels: The panels.
        ylabel: The label of the vertical axes.
        log: If true, an axis whose values span enough becomes logarithmic.
        only: The settings to draw; None: all.

    Returns:
        The figure, and the part of the caption that explains the lines. None if no panel's series was recorded.
    """
    chosen = [i for i, setting in enumerate(settings) if only is None or setting in only]
    recorded = {key for i in chosen for run in settings[i].runs for key in run.curves}
    drawable = [panel for panel in panels if panel.series in recorded]
    shown = drawable[:PANELS_SHOWN]
    if not shown:
        return None
    figure, axes, across = style.grid_of_panels([panel.title for panel in shown])
    drawn: set[int] = set()
    zeros = False
    for number, (panel, axis) in enumerate(zip(shown, axes, strict=True)):
        curves = {i: found for i in chosen if (found := settings[i].curves(panel.series))}
        if not curves:
            style.mark_empty(axis)
            axis.set_yticks([])
            continue
        drawn |= set(curves)
        zeros |= _draw_panel(axis, curves, looks, log, labelled=number + across >= len(shown))
        axis.set_ylabel(ylabel if number % across == 0 else "")
    style.add_legend(figure, settings, looks, drawn)
    notes = [style.first_shown_note(len(shown), len(drawable), "panels"), ZEROS if zeros else ""]
    return figure, " ".join(filter(None, [*notes, _about_lines(settings, looks)]))


def _draw_panel(
    axis: Axes, curves: dict[int, list[Curve]], looks: Sequence[Look], log: bool, *, labelled: bool
) -> bool:
    """Draws one panel.

    Args:
        axis: The panel's axis.
        curves: For the number of each setting, its curves: one for each seed.
        looks: The looks of all settings.
        log: If true, the vertical axis may become logarithmic.
        labelled: If true, the horizontal axis gets a label.

    Returns:
        True if the vertical axis is logarithmic and goes down to 0.
    """
    end = max(1.0, *(curve.x[-1] for found in curves.values() for curve in found))
    bands = {i: band(found, end) for i, found in curves.items()}
    for i, made in bands.items():
        if looks[i].in_front:
            _draw_line(axis, made, looks[i])
    behind = [np.column_stack([made.x, made.mean]) for i, made in bands.items() if not looks[i].in_front]
    axis.add_collection(LineCollection(behind, colors=OTHERS, linewidths=0.5, zorder=1.5))
    axis.autoscale_view()
    zeros = log and style.make_logarithmic(axis, np.concatenate([made.mean for made in bands.values()]))
    style.set_horizontal_axis(axis, next(iter(curves.values()))[0].axis if labelled else "", end)
    return zeros


def _draw_line(axis: Axes, made: Band, look: Look) -> None:
    """Draws one setting's mean and band. The mean is pale where some seeds have ended; the band ends there."""
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


def _about_lines(settings: Sequence[Setting], looks: Sequence[Look]) -> str:
    """The sentences of the caption that explain line and band."""
    fewest, most = min(s.seeds[0] for s in settings), max(s.seeds[1] for s in settings)
    if most == 1:
        return "One seed each (n = 1): the lines do not show how much results vary between seeds."
    n = f"n = {most}" if fewest == most else f"n = {fewest} to {most}; no band where n = 1"
    behind = " Settings in grey have no band." if not all(look.in_front for look in looks) else ""
    text = f"Line: mean over seeds; band: from the lowest to the highest seed ({n}).{behind}"
    if any(len(_ends(setting)) > 1 for setting in settings):
        text += " A line is pale and has no band where some of its seeds have ended. "
        text += "It ends where more than half of them have ended."
    return text


def _ends(setting: Setting) -> set[float]:
    """The steps at which the training of the setting's runs ended."""
    return {curve.x[-1] for run in setting.runs for name, curve in run.curves.items() if kind(name) == "train"}
