"""With a loss that reaches 0, the axis stays logarithmic for the other values. The caption says how it reaches 0."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from rig.synthetic_sweep import TASKS, history, method

from mtlcluster.collect.colours import plain_looks
from mtlcluster.collect.figures import Figures
from mtlcluster.collect.read_histories import finished_run
from mtlcluster.collect.settings import group_runs
from mtlcluster.collect.tables import Table

ZEROS = "Below the dotted line, a logarithmic axis is linear down to 0."
FALLING = 10.0 ** np.linspace(2, -4, 30)


def drawn(*losses: Any) -> tuple[Axes, str]:
    """The panel of the first task's validation loss, with a setting for each of `losses`, and the caption."""
    runs = []
    for i, values in enumerate(losses):
        made = history(method(), 0, varied={"model.x": i}, epochs=30, points=30, tasks=TASKS[:1])
        made["series"]["validation/left/loss"]["value"] = np.asarray(values, dtype=float)
        runs.append(finished_run(f"run-{i}", made))
    table = Table("results", "", [], [], [])
    settings = group_runs(runs)
    drawing = Figures(settings, runs[0].tasks, table, plain_looks(settings))
    figure, caption = drawing.validation_losses() or pytest.fail("none")
    figure.canvas.draw()
    return figure.axes[0], caption


def heights(axis: Axes, values: Any) -> list[float]:
    """Where values are on the axis: 0 is its lower end, 1 its upper end."""
    points = axis.transData.transform([(1, value) for value in values])
    return list(axis.transAxes.inverted().transform(points)[:, 1])


@pytest.mark.parametrize(
    "losses",
    [
        [FALLING, [*FALLING[:-1], 0.0]],
        [FALLING, [0.0] * 30],
        [[*FALLING[:10], *[0.0] * 20]],
        [FALLING, [*FALLING[:-1], 1e-300]],
        [FALLING, [*FALLING[:-1], 5e-324]],
        [[0.0, *FALLING[1:]], FALLING * 1e4],
    ],
    ids=["last", "all", "most", "tiny", "denormal", "first"],
)
def test_zeros_and_tiny_values_leave_the_others_apart(losses: list[Any]) -> None:
    axis, caption = drawn(*losses)
    assert ZEROS in caption
    places = heights(axis, [0.0, *FALLING[9::-4]])
    assert places[0] == pytest.approx(0, abs=0.1), "0 is on the axis"
    assert min(np.diff(places)) > 0.03, "and what differs tenfold stands apart"
    labels = {label.get_text() for label in axis.get_yticklabels()}
    assert "0" in labels, "and has a tick"
    assert len(labels) >= 4


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([FALLING], "log"), ([-FALLING, FALLING], "linear"), ([[2.0] * 29 + [1.0]], "linear"),
     ([[2.0] * 29 + [0.0]], "linear"), ([[0.0] * 30], "linear"), ([[*FALLING[:-1], np.nan]], "log")],
)  # fmt: skip
def test_other_axes_are_as_they_were(losses: list[Any], scale: str) -> None:
    axis, caption = drawn(*losses)
    assert axis.get_yscale() == scale
    assert ZEROS not in caption
