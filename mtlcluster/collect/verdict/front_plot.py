"""The front that static weights trace, with every method's seeds, for each pair of tasks."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.colours import COLOURS
from mtlcluster.collect.labels import wrapped, wrapped_apart
from mtlcluster.collect.verdict.result import Front, MethodResult, Verdict

MARKS = "osD^vP"
STATIC, ON_FRONT = "#B4B4B4", "#555555"
METHODS_SHOWN = 12
PANELS_SHOWN = 10  # pairs of five tasks


def draw_front(verdict: Verdict) -> tuple[Figure, str] | None:
    """Draws task values against each other.

    Returns:
        The figure and its caption. None without a front, or with one task.
    """
    front = verdict.front
    if front is None or len(front.tasks) < 2:
        return None
    every = list(combinations(front.tasks, 2))
    pairs = every[:PANELS_SHOWN]
    methods = [m for m in verdict.methods if m.per_task_by_seed and not m.single]
    shown = methods[:METHODS_SHOWN]
    across = min(len(pairs), 3)
    down = -(-len(pairs) // across)
    width = style.PAGE if across > 1 else 4.2
    figure, axes = style.new_figure(width, (2.0 if across > 1 else 3.0) * down, down, across)
    for axis in axes[len(pairs) :]:
        axis.remove()
    for axis, (one, other) in zip(axes, pairs, strict=False):
        _draw_pair(axis, front, verdict.data, shown, one, other)
    _add_legend(figure, shown)
    notes = (
        style.first_shown_note(len(pairs), len(every), "pairs of tasks"),
        style.first_shown_note(len(shown), len(methods), "methods"),
    )
    caption = (
        f"Two tasks against each other, in points of their {verdict.data} data; up and right is better. Grey: the "
        "settings of static weights, dark those that no other beats on all tasks (one run each with the tuning seed, "
        "or the mean). Coloured: each run of a method, and their mean."
    )
    return figure, " ".join(filter(None, (caption, *notes)))


def _draw_pair(axis: Axes, front: Front, data: str, methods: list[MethodResult], one: str, other: str) -> None:
    for point in front.points:
        values = point.test if data == "test" else point.validation
        if one in values and other in values:
            colour, depth = (ON_FRONT, 3) if point.on_front else (STATIC, 2)
            axis.scatter([values[one]], [values[other]], 13, color=colour, marker="x", linewidths=0.9, zorder=depth)
    for number, method in enumerate(methods):
        if one not in method.per_task or other not in method.per_task:
            continue
        colour, mark = _look(number)
        x, y = method.per_task_by_seed[one], method.per_task_by_seed[other]
        seeds = sorted(x.keys() & y.keys())
        axis.scatter([x[s] for s in seeds], [y[s] for s in seeds], 4, color=colour, alpha=0.5, linewidths=0, zorder=4)
        mean = ([method.per_task[one]], [method.per_task[other]])
        axis.scatter(*mean, 22, color=colour, marker=mark, linewidths=0.4, edgecolors="white", zorder=5)
    axis.set_xlabel(wrapped(one, 26, 1))
    axis.set_ylabel(wrapped(other, 26, 1))
    axis.axhline(0, color=style.EDGE, linewidth=0.5, linestyle=(0, (3, 2)), zorder=1)
    axis.axvline(0, color=style.EDGE, linewidth=0.5, linestyle=(0, (3, 2)), zorder=1)


def _look(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], MARKS[(number // len(COLOURS) + number) % len(MARKS)]


def _add_legend(figure: Figure, methods: list[MethodResult]) -> None:
    labels = wrapped_apart([m.name for m in methods], 36, 1)
    handles = [style.dot(*_look(number)) for number in range(len(methods))]
    handles.append(style.dot(STATIC, "x"))
    style.legend_below(figure, handles, [*labels, "static weights"])
