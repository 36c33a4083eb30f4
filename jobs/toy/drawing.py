"""The figure of the toy problem: the paths of the runs over the contours of the losses."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from mtlcluster.collect.colours import COLOURS
from mtlcluster.collect.style import DPI, PAGE, new_figure, use_style

from . import loss
from .findings import FRONT_X, FRONT_Y, SCALE, Paths
from .findings import Path as RunPath

LIMIT = 10.5  # of both axes
CELLS = 160
ACROSS = 3  # panels side by side
MEAN, TASK1, TASK2 = "#B8BEC5", COLOURS[5], COLOURS[4]
FRONT, START = COLOURS[2], "#000000"
SHADES = LinearSegmentedColormap.from_list("steps", ["#F4C7A1", COLOURS[1], "#5A2400"])


def draw(paths: Paths, to: Path) -> None:
    """Draws a panel for each method, and saves the figure in the file `to`."""
    rows = math.ceil(len(paths) / ACROSS)
    axis_of = np.linspace(-LIMIT, LIMIT, CELLS)
    losses = [SCALE[task] * surface(task, axis_of) for task in (0, 1)]
    with use_style():
        figure, axes = new_figure(PAGE, 2.35 * rows, rows, ACROSS, sharex=True, sharey=True)
        for axis, (method, of_method) in zip(axes, paths.items(), strict=False):
            _contours(axis, axis_of, losses)
            axis.plot(FRONT_X, (FRONT_Y, FRONT_Y), color=FRONT, linewidth=4, alpha=0.7, solid_capstyle="butt", zorder=3)
            for path in of_method:
                _path(axis, path)
            arrived = sum(path.arrived for path in of_method)
            axis.set_title(f"{method}: {arrived} of {len(of_method)} on the front", loc="left")
            axis.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="x", ylabel="y")
            axis.grid(False)
            axis.label_outer()
        for axis in axes[len(paths) :]:
            axis.remove()
        figure.savefig(to, dpi=DPI, metadata={"Software": None})


def surface(task: int, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The loss of a task, before scaling, on a grid of points.

    Args:
        task: 0 or 1.
        places: The values [K] of x, and of y.

    Returns:
        The losses [K, K]; a row has one y.
    """
    return np.array([[loss(task, x, y)[0] for x in places.tolist()] for y in places.tolist()])


def _contours(axis: Axes, places: NDArray[np.float64], losses: list[NDArray[np.float64]]) -> None:
    for values, colour, count, width in (
        (losses[0], TASK1, 8, 0.35),
        (losses[1], TASK2, 8, 0.35),
        ((losses[0] + losses[1]) / 2, MEAN, 16, 0.6),
    ):
        axis.contour(places, places, values, count, colors=colour, linewidths=width, linestyles="solid")


def _path(axis: Axes, path: RunPath) -> None:
    """Draws a path that gets darker with every step. Its end is a star, which is hollow if it is not on the front."""
    pieces = np.stack([path.points[:-1], path.points[1:]], axis=1)
    lines = LineCollection(list(pieces), cmap=SHADES, linewidth=1.4, zorder=4, capstyle="round")
    lines.set_array(path.steps[1:] / path.steps[-1])
    axis.add_collection(lines)
    axis.plot(*path.start, "o", color=START, markersize=3.5, zorder=5)
    face = SHADES(1.0) if path.arrived else "white"
    axis.plot(*path.end, "*", markersize=8, markerfacecolor=face, markeredgecolor=SHADES(1.0), zorder=6)
