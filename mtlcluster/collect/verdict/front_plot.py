"""The front that static weights trace, with every method's seeds, for each pair of tasks."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlcluster.collect import style
from mtlcluster.collect.colours import BEHIND, Look
from mtlcluster.collect.labels import wrapped, wrapped_apart
from mtlcluster.collect.verdict.result import Front, MethodResult, Verdict
from mtlcluster.collect.verdict.words import counted

STATIC, ON_FRONT = "#B4B4B4", "#555555"
TASKS_SHOWN = 5  # of more tasks each panel would be too small to read


def draw_front(verdict: Verdict, looks: Mapping[str, Look]) -> tuple[Figure, str] | None:
    """Draws task values against each other: a panel for two tasks, for more a matrix of every pair.

    Args:
        verdict: The verdict.
        looks: By method.

    Returns:
        The figure and its caption. None without a front, or with one task.
    """
    front = verdict.front
    if front is None or len(front.tasks) < 2:
        return None
    tasks = front.tasks[:TASKS_SHOWN]
    methods = [m for m in verdict.methods if m.per_task_by_seed and not m.single]
    methods.sort(key=lambda m: not looks[m.name].in_front)
    across = len(tasks) - 1
    size = (style.PAGE, style.PAGE * 0.8) if across > 1 else (4.2, 3.0)
    figure, axes = style.new_figure(*size, across, across, sharex="col", sharey="row")
    for place, axis in enumerate(axes):
        down, right = divmod(place, across)
        if right > down:
            axis.remove()
            continue
        _draw_pair(axis, front, verdict.data, methods, looks, (tasks[right], tasks[down + 1]))
        if down == across - 1:
            axis.set_xlabel(wrapped(tasks[right], 100 // across, 1))
        if right == 0:
            axis.set_ylabel(wrapped(tasks[down + 1], 80 // across, 1))
    _add_legend(figure, [m.name for m in methods], looks)
    caption = (
        f"Two tasks against each other, in points of their {verdict.data} data; up and right is better. Crosses: the "
        "settings of static weights, dark those that no other beats on all tasks (one run each with the tuning seed, "
        "or the mean). Small dots: each run of a method; the large mark is their mean."
    )
    return figure, f"{caption} {style.first_shown_note(len(tasks), len(front.tasks), 'tasks')}".strip()


def _draw_pair(
    axis: Axes,
    front: Front,
    data: str,
    methods: Sequence[MethodResult],
    looks: Mapping[str, Look],
    pair: tuple[str, str],
) -> None:
    one, other = pair
    for point in front.points:
        values = point.test if data == "test" else point.validation
        if one in values and other in values:
            colour, depth = (ON_FRONT, 3) if point.on_front else (STATIC, 2)
            axis.scatter([values[one]], [values[other]], 13, color=colour, marker="x", linewidths=0.9, zorder=depth)
    for method in methods:
        if one not in method.per_task or other not in method.per_task:
            continue
        look = looks[method.name]
        colour, depth = (look.colour, 5) if look.in_front else (BEHIND, 4)
        x, y = method.per_task_by_seed[one], method.per_task_by_seed[other]
        seeds = sorted(x.keys() & y.keys())
        axis.scatter([x[s] for s in seeds], [y[s] for s in seeds], 4, color=colour, alpha=0.5, linewidths=0, zorder=4)
        mean = ([method.per_task[one]], [method.per_task[other]])
        axis.scatter(*mean, 24, color=colour, marker=look.mark, linewidths=0.4, edgecolors="white", zorder=depth)
    axis.axhline(0, color=style.EDGE, linewidth=0.5, linestyle=(0, (3, 2)), zorder=1)
    axis.axvline(0, color=style.EDGE, linewidth=0.5, linestyle=(0, (3, 2)), zorder=1)


def _add_legend(figure: Figure, names: Sequence[str], looks: Mapping[str, Look]) -> None:
    front = [name for name in names if looks[name].in_front]
    labels = wrapped_apart(front, 44, 1)
    handles = [style.dot(looks[name].colour, looks[name].mark) for name in front]
    if behind := len(names) - len(front):
        labels.append(counted(behind, "other method"))
        handles.append(style.dot(BEHIND, "o"))
    style.legend_below(figure, [*handles, style.dot(ON_FRONT, "x")], [*labels, "static weights"])
