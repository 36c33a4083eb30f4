"""What a search with fewer trials would have found: the expected best of n trials, against n and against backwards."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlcluster.collect import style
from mtlcluster.collect.colours import OTHERS, Look
from mtlcluster.collect.inference.expected_best import against_backwards, expected_best_band, expected_best_curve
from mtlcluster.collect.labels import wrapped_apart
from mtlcluster.collect.verdict.rows import Row, Rows
from mtlcluster.collect.verdict.words import counted

BANDS = 4  # methods; the bands of more hide each other
FEWEST = 3  # trials; a curve of fewer says nothing


def draw_expected_best(rows: Rows, looks: Mapping[str, Look]) -> tuple[Figure, str] | None:
    """Draws a curve for each method that was searched at random.

    Args:
        rows: The rows of the comparison.
        looks: By method.

    Returns:
        The figure and its caption. None where there are no such methods.
    """
    searched = [(row, *_trials(row)) for row in rows.rows if not row.single and not row.static]
    shown = [(row, values, spent) for row, values, spent in searched if len(values) >= FEWEST]
    if not shown:
        return None
    known = any(spent.any() for _, _, spent in shown)  # older histories do not count backward passes
    figure, axes = style.new_figure(style.PAGE if known else 4.2, 2.3, 1, 1 + known, sharey=True)
    larger, late = rows.direction == "max", []
    ends = max(len(values) for _, values, _ in shown), max(spent.sum() for *_, spent in shown)
    for row, values, spent in shown:
        look, curve = looks[row.name], expected_best_curve(values, larger)
        late.append(curve[1:])
        for axis, x in zip(axes, (np.arange(1, len(values) + 1), against_backwards(spent)), strict=False):
            width = 1.2 if look.in_front else 0.7
            axis.plot(x, curve, color=look.colour, linestyle=look.dash, linewidth=width, zorder=2 + look.in_front)
            if len(shown) <= BANDS:
                low, high = expected_best_band(values, larger)
                late += [low[1:], high[1:]]
                axis.fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)
    axes[0].set_ylabel(f"validation/{rows.value}")
    for axis, label, end in zip(axes, ("trials", "backward passes"), ends, strict=False):
        style.set_horizontal_axis(axis, label, 1.03 * end)
    _fit(axes[0], np.concatenate(late))
    _add_legend(figure, [row.name for row, *_ in shown], looks)
    band = " The bands hold 95 % of searches by a bootstrap over the trials." if len(shown) <= BANDS else ""
    return figure, (
        f"The best validation/{rows.value} that n of a method's trials would have found on average, against n and "
        f"against the backward passes that they take. A pruned trial counts with its value where it was pruned.{band} "
        "Static weights are left out: they were not drawn at random. The vertical axis is fitted to two and more "
        "trials."
    )


def _fit(axis: Axes, late: np.ndarray) -> None:
    """Fits the vertical axis to two and more trials: one bad trial among them would flatten the rest."""
    room = 0.1 * max(float(np.ptp(late)), 1e-3 * float(np.abs(late).max()))
    axis.set_ylim(late.min() - room, late.max() + room)


def _add_legend(figure: Figure, names: list[str], looks: Mapping[str, Look]) -> None:
    front = [name for name in names if looks[name].in_front]
    handles = [Line2D([], [], color=looks[n].colour, linestyle=looks[n].dash, linewidth=1.4) for n in front]
    labels = wrapped_apart(front, 44, 1)
    if behind := len(names) - len(front):
        handles.append(Line2D([], [], color=OTHERS, linewidth=0.8))
        labels.append(counted(behind, "other method"))
    style.legend_below(figure, handles, labels)


def _trials(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """The value and the backward passes of each trial that has a value."""
    known = [(one.value, one.backwards) for one in row.tried if one.value is not None and np.isfinite(one.value)]
    return np.array([value for value, _ in known]), np.array([spent for _, spent in known], dtype=float)
