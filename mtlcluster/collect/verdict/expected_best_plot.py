"""What a search with fewer trials would have found: the expected best of n trials, against n and against backwards."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtlcluster.collect import style
from mtlcluster.collect.colours import COLOURS, DASHES
from mtlcluster.collect.inference.expected_best import against_backwards, expected_best_band, expected_best_curve
from mtlcluster.collect.labels import wrapped_apart
from mtlcluster.collect.verdict.rows import Row, Rows

METHODS_SHOWN = 12
FEWEST = 3  # trials; a curve of fewer says nothing


def draw_expected_best(rows: Rows) -> tuple[Figure, str] | None:
    """Draws a curve for each method that was searched at random.

    Returns:
        The figure and its caption. None where there are no such methods.
    """
    searched = [(row, *_trials(row)) for row in rows.rows if not row.single and not row.static]
    every = [(row, values, spent) for row, values, spent in searched if len(values) >= FEWEST]
    shown = every[:METHODS_SHOWN]
    if not shown:
        return None
    known = any(spent.any() for _, _, spent in shown)  # older histories do not count backward passes
    figure, axes = style.new_figure(style.PAGE if known else 4.2, 2.3, 1, 1 + known, sharey=True)
    handles = []
    for number, (_, values, spent) in enumerate(shown):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        larger = rows.direction == "max"
        curve, (low, high) = expected_best_curve(values, larger), expected_best_band(values, larger)
        for axis, x in zip(axes, (np.arange(1, len(values) + 1), against_backwards(spent)), strict=False):
            [line] = axis.plot(x, curve, color=colour, linestyle=dash, linewidth=1.2)
            if len(shown) <= 4:
                axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        handles.append(line)
    axes[0].set_ylabel(f"validation/{rows.value}")
    for axis, label in zip(axes, ("trials", "backward passes"), strict=False):
        axis.set_xlabel(label)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    style.legend_below(figure, handles, wrapped_apart([row.name for row, *_ in shown], 36, 1))
    band = " The bands hold 95 % of searches by a bootstrap over the trials." if len(shown) <= 4 else ""
    note = style.first_shown_note(len(shown), len(every), "methods")
    return figure, (
        f"The best validation/{rows.value} that n of a method's trials would have found on average, against n and "
        f"against the backward passes that they take. A pruned trial counts with its value where it was pruned.{band} "
        f"Static weights are left out: they were not drawn at random. {note}"
    ).strip()


def _trials(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """The value and the backward passes of each trial that has a value."""
    known = [(one.value, one.backwards) for one in row.tried if one.value is not None and np.isfinite(one.value)]
    return np.array([value for value, _ in known]), np.array([spent for _, spent in known], dtype=float)
