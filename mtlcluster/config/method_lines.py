"""The list `method` of a grid: its lines, and the several methods that one line can stand for.

- `{schedule: single}` without a task is one baseline for each task.
- `{weighting: {name: static, draws: 12}}` is twelve settings of the weights.
- `{weighting: {name: gradnorm, alpha: {uniform: [0.1, 3]}}}` has an option that is drawn.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pydantic

from mtlcluster.config.draws import Draw, is_draw, read_draw, sequence
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import shown
from mtlcluster.pydantic_errors import Key, first_mistake

FLOOR = 0.05  # the least weight that `static` draws
DIGITS = 4
MOST_WEIGHTS = 10_000


@dataclass(frozen=True)
class MethodLine:
    """One method of a grid.

    Attributes:
        method: The method as the grid names it, without what is drawn.
        place: Its place in the grid file.
        single_task: The task of a single-task baseline.
        draws: The options that are drawn, by dotted key.
        weights: The number of settings of the weights of `static` with `draws`; else 0.
    """

    method: Any
    place: Key
    single_task: str | None = None
    draws: dict[str, Draw] = field(default_factory=dict)
    weights: int = 0


def method_lines(source: YamlFile, methods: Mapping[Key, Any], tasks: Sequence[str]) -> list[MethodLine]:
    """The methods of a grid.

    Args:
        source: The grid file.
        methods: The methods as it names them, by their places.
        tasks: The tasks that the configuration names; empty if it names none.

    Raises:
        UserError: A draw is wrong, or a line needs the names of the tasks.
    """
    read = (_read(source, method, place) for place, method in methods.items())
    return list(itertools.chain.from_iterable(_by_task(source, line, tasks) for line in read))


def plain_methods(source: YamlFile, lines: list[MethodLine], tasks: Sequence[str]) -> Iterator[tuple[Any, Key]]:
    """The methods of a grid without `tune`, each with its place: every setting of the weights is a method."""
    for line in lines:
        if line.draws:
            source.refuse(
                line.place, f"{next(iter(line.draws))} is drawn, which needs `tune`: add tune: {{trials: 12}}"
            )
        if not line.weights:
            yield line.method, line.place
        for weights in static_weights(tasks, line.weights, 0, 0) if line.weights else ():
            static = {**line.method["weighting"], "weights": weights}
            yield {**line.method, "weighting": static}, line.place


def static_weights(tasks: Sequence[str], count: int, column: int, seed: int) -> list[dict[str, float]]:
    """Weights for the tasks that sum to their number T. None is below 0.05.

    The first are equal. Then each task once has all but the least weight of the others. The others are spread evenly
    over the simplex (the gaps between sorted uniform numbers: Devroye, Non-Uniform Random Variate Generation, 1986,
    V.2).

    Args:
        tasks: The names of the tasks.
        count: The number of settings.
        column: The first column of the Sobol sequence that is used; T − 1 are.
        seed: Scrambles the sequence.
    """
    total = len(tasks)
    settings = [[1.0] * total]
    settings += [
        [total - FLOOR * (total - 1) if i == corner else FLOOR for i in range(total)] for corner in range(total)
    ]
    for point in sequence(seed, count)[len(settings) : count].tolist() if count > len(settings) else ():
        cuts = [0.0, *sorted(point[column : column + total - 1]), 1.0]
        gaps = [high - low for low, high in itertools.pairwise(cuts)]
        settings.append([FLOOR + (total - FLOOR * total) * gap for gap in gaps])
    return [
        {task: float(f"{weight:.{DIGITS}g}") for task, weight in zip(tasks, weights, strict=True)}
        for weights in settings[:count]
    ]


def _read(source: YamlFile, method: Any, place: Key) -> MethodLine:
    if not isinstance(method, dict):
        return MethodLine(method, place, single_task=None)
    weighting, weights = method.get("weighting"), 0
    if isinstance(weighting, dict) and weighting.get("name") == "static" and "draws" in weighting:
        weights = weighting["draws"]
        inner = (*place, "weighting", "draws")
        if type(weights) is not int or not 1 <= weights <= MOST_WEIGHTS:
            source.refuse(inner, f"draws should be a count from 1 to {MOST_WEIGHTS:,}, found {shown(weights)}")
        if "weights" in weighting:
            source.refuse(inner, "give static either `draws` or `weights`")
        method = {**method, "weighting": {key: value for key, value in weighting.items() if key != "draws"}}
    draws: dict[str, Draw] = {}
    plain = _without_draws(source, method, place, "method", draws)
    return MethodLine(plain, place, draws=draws, weights=weights)


def _without_draws(source: YamlFile, value: Any, place: Key, dotted_key: str, draws: dict[str, Draw]) -> Any:
    """`value` without the options that are drawn, which are added to `draws`."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, inner in value.items():
        if is_draw(inner):
            if dotted_key == "method" or key == "name":
                words = f"{dotted_key}.{key} can't be drawn: every method is tuned; name each of them in the list"
                source.refuse((*place, key), words)
            try:
                draws[f"{dotted_key}.{key}"] = read_draw(inner)
            except pydantic.ValidationError as error:
                where, message = first_mistake(error, pydantic.BaseModel)
                source.refuse((*place, key, *where), f"{key}: {message}")
        else:
            kept[key] = _without_draws(source, inner, (*place, key), f"{dotted_key}.{key}", draws)
    return kept


def _by_task(source: YamlFile, line: MethodLine, tasks: Sequence[str]) -> Iterator[MethodLine]:
    """The line, or one for each task if it is `single` without a task."""
    options: Any = "single" if line.method == "single" else None
    if isinstance(line.method, dict):
        options = line.method.get("schedule")
    if not isinstance(options, dict):
        options = {"name": options}
    single = options.get("name") == "single"
    if "method.schedule.task" in line.draws and single:
        source.refuse(line.place, "the task of single can't be drawn; without it, single is a baseline for each task")
    if ((single and "task" not in options) or line.weights) and not tasks:
        what = "static with `draws`" if line.weights else "single without a task"
        words = f"{what} needs the names of the tasks; add to the grid: set: {{tasks: [first task, second task, …]}}"
        source.refuse(line.place, words)
    if not single:
        yield line
    elif "task" in options:
        yield replace(line, single_task=options["task"] if isinstance(options["task"], str) else None)
    else:
        rest = line.method if isinstance(line.method, dict) else {}
        for task in tasks:
            yield replace(line, method={**rest, "schedule": {**options, "task": task}}, single_task=task)


def number_of_columns(line: MethodLine, tasks: Sequence[str]) -> int:
    """The columns of the Sobol sequence that the method's own options take."""
    return len(line.draws) + (len(tasks) - 1 if line.weights else 0)
