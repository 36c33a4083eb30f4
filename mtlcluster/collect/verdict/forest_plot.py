"""The forest plot: the difference of each method from the reference, with its interval."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlcluster.collect import style
from mtlcluster.collect.labels import wrapped_apart
from mtlcluster.collect.verdict.explanations import intervals_by
from mtlcluster.collect.verdict.result import MethodResult, Verdict

ROWS_SHOWN = 40
ROW, MARGINS = 0.19, 0.95  # inches
LOOKS = {"better": "#0072B2", "worse": "#D55E00"}  # by the words of the comparison; else grey
GREY = "#767676"


def draw_forest(verdict: Verdict) -> tuple[Figure, str] | None:
    """Draws the intervals of the differences.

    Returns:
        The figure and its caption. None where nothing is compared.
    """
    compared = [m for m in verdict.methods if m.versus_reference and np.isfinite(m.versus_reference.low)]
    rows = sorted(compared, key=lambda m: -m.versus_reference.difference if m.versus_reference else 0.0)[:ROWS_SHOWN]
    if not rows:
        return None
    figure, [axis] = style.new_figure(style.PAGE, ROW * len(rows) + MARGINS, 1, 1)
    axis.axvspan(-verdict.delta, verdict.delta, color="#EFEFEF", zorder=0, linewidth=0)
    axis.axvline(0, color=style.EDGE, linewidth=0.7, zorder=1)
    reference = next((m for m in verdict.methods if m.name == verdict.reference), None)
    for place, method in enumerate(rows):
        _draw_row(axis, place, method, reference)
    axis.set_yticks(range(len(rows)), wrapped_apart([m.name for m in rows], 40, 1))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(f"points of z, minus those of {verdict.reference} (right is better)")
    _add_legend(figure, rows)
    more = style.first_shown_note(len(rows), len(compared), "methods")
    return figure, f"{_caption(verdict, rows)} {more}".strip()


def _draw_row(axis: Axes, place: int, method: MethodResult, reference: MethodResult | None) -> None:
    versus = method.versus_reference
    assert versus is not None
    colour = LOOKS.get(versus.words, GREY)
    axis.hlines(place, versus.low, versus.high, color=colour, linewidth=1.1, zorder=3)
    inner = (versus.difference - versus.half_seeds, versus.difference + versus.half_seeds)
    if versus.half_samples is not None:
        axis.hlines(place, *inner, color=colour, linewidth=3.2, alpha=0.45, zorder=2)
    axis.scatter([versus.difference], [place], 17, color=colour, linewidths=0, zorder=5)
    if reference is not None:
        seeds = method.z_by_seed.keys() & reference.z_by_seed.keys()
        pairs = [method.z_by_seed[seed] - reference.z_by_seed[seed] for seed in sorted(seeds)]
        axis.scatter(pairs, [place + 0.24] * len(pairs), 3.5, color=style.EDGE, alpha=0.55, linewidths=0, zorder=4)


def _add_legend(figure: Figure, rows: list[MethodResult]) -> None:
    words = {m.versus_reference.words for m in rows if m.versus_reference}
    entries = [(word, colour) for word, colour in LOOKS.items() if word in words]
    if words - LOOKS.keys():
        entries.append((" / ".join(sorted(words - LOOKS.keys())), GREY))
    handles = [Line2D([], [], color=colour, marker="o", markersize=3.5, linewidth=1.1) for _, colour in entries]
    labels = [label for label, _ in entries]
    handles.append(Line2D([], [], color=style.EDGE, marker="o", markersize=2, linewidth=0, alpha=0.55))
    labels.append("pairs of runs with the same seed")
    style.legend_below(figure, handles, labels)


def _caption(verdict: Verdict, rows: list[MethodResult]) -> str:
    text = (
        f"The difference of each method from {verdict.reference}: its mean over {len(verdict.seeds)} seeds and an "
        f"interval; all {len(rows)} intervals hold at once with 95 % ({intervals_by(verdict)}). "
    )
    if all(m.versus_reference and m.versus_reference.half_samples is not None for m in rows):
        text += "The thick part is what the seeds alone make; the whole also holds the test data's own error. "
    else:
        text += f"The {verdict.data} data's own error is left out. "
    return text + f"In the grey band, ±{verdict.delta:g} points, a difference is too small to matter."
