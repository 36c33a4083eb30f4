"""Expands a grid file into points: one value for each key that the grid varies."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from mtlcluster.config.draws import Draw
from mtlcluster.config.grid_file import GridFile, ValuesOrDraw
from mtlcluster.config.method_lines import method_lines, plain_methods
from mtlcluster.config.values import MOST, Values, length, listed
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import shown
from mtlcluster.pydantic_errors import Key, dotted

Point = list[tuple[str, Any, Key]]  # dotted key, value, and the place of the value in the grid file


def expand(source: YamlFile, file: GridFile, tasks: Sequence[str], max_points: int) -> list[Point]:
    """All points: every combination of `grid` and the groups of `zip`, then `include`, without `exclude`.

    Args:
        source: The grid file.
        file: Its keys.
        tasks: The tasks that the configuration names; empty if it names none.
        max_points: More points are refused.

    Raises:
        UserError: A list is empty, zipped lists differ in length, an `exclude` matches nothing, or there are more than
            `max_points` points.
    """
    if not file.grid and not file.zip and not file.include:
        source.refuse(("grid",), "the grid is empty: give at least one key with a list of values")
    given = {key: _undrawn(source, key, value) for key, value in file.grid.items()}
    count = math.prod(map(length, given.values()))
    _refuse_too_many(source, count, max_points)  # before anything of that size is made
    axes = [_grid_axis(source, file, key, values, tasks) for key, values in given.items()]
    axes += [_zip_axis(source, i, group) for i, group in enumerate(file.zip)]
    included = [_included(i, point) for i, point in enumerate(file.include)]
    count = math.prod(map(len, axes)) if axes else 0
    _refuse_too_many(source, count + len(included), max_points)
    product = itertools.product(*axes) if axes else iter(())
    combined = (list(itertools.chain(*parts)) for parts in product)
    return list(_without_excluded(source, file, itertools.chain(combined, included)))


def _undrawn(source: YamlFile, key: str, given: ValuesOrDraw) -> Sequence[Any]:
    if isinstance(given, Draw):
        source.refuse(("grid", key), f"grid.{key} is drawn, which needs `tune`: add tune: {{trials: 12}}")
    return some_values(source, ("grid", key), given)


def some_values(source: YamlFile, place: Key, given: Values) -> Sequence[Any]:
    """The values of a list, in any of its forms. Raises UserError if there are none.

    Args:
        source: The grid file.
        place: The place of the list in it.
        given: The list.
    """
    values = listed(given)
    if not values:
        source.refuse(place, f"{dotted(place)} has no values")
    return values


def few_values(source: YamlFile, place: Key, given: Values) -> list[Any]:
    """The same as a list that may be copied. Raises UserError if there are too many values for that, too."""
    values = some_values(source, place, given)
    if (count := length(values)) > MOST:
        source.refuse(place, f"{dotted(place)} has {count:,} values; the limit is {MOST:,}")
    return list(values)


def _refuse_too_many(source: YamlFile, count: int, most: int) -> None:
    if count > most:
        points = f"{count:,}" if count < 10**15 else "more than 10^15"
        source.refuse(("grid",), f"{points} points; the limit is {most:,} (--max-runs changes it)")


def _grid_axis(source: YamlFile, file: GridFile, key: str, values: Sequence[Any], tasks: Sequence[str]) -> list[Point]:
    where: Key = ("grid", key)
    if key == "method":
        lines = method_lines(source, {(*where, i): value for i, value in enumerate(values)}, tasks)
        return [[(key, value, place)] for value, place in plain_methods(source, lines, tasks)]
    in_list = isinstance(file.grid[key], list)
    return [[(key, value, (*where, i) if in_list else where)] for i, value in enumerate(values)]


def _zip_axis(source: YamlFile, number: int, group: dict[str, Values]) -> list[Point]:
    return [
        [(key, value, ("zip", number, key, row)) for key, value in zip(group, values, strict=True)]
        for row, values in enumerate(zip_rows(source, number, group))
    ]


def zip_rows(source: YamlFile, number: int, group: dict[str, Values]) -> list[tuple[Any, ...]]:
    """The rows of a group of `zip`: a value for each of its keys. Raises UserError if they differ in number, or if
    there are none or too many.
    """
    columns = [few_values(source, ("zip", number, key), values) for key, values in group.items()]
    lengths = {key: len(values) for key, values in zip(group, columns, strict=True)}
    if len(set(lengths.values())) != 1:
        source.refuse(("zip", number), f"lists that advance together should be equally long, found {lengths}")
    return list(zip(*columns, strict=True))


def _included(number: int, point: dict[str, Any]) -> Point:
    return [(key, value, ("include", number, key)) for key, value in point.items()]


def _without_excluded(source: YamlFile, file: GridFile, points: Iterator[Point]) -> Iterator[Point]:
    used = [False] * len(file.exclude)
    for point in points:
        values = {key: value for key, value, _ in point}
        matching = [i for i, excluded in enumerate(file.exclude) if _matches(values, excluded)]
        for i in matching:
            used[i] = True
        if not matching:
            yield point
    for i, was_used in enumerate(used):
        if not was_used:
            source.refuse(("exclude", i), f"exclude matches no point: {shown(file.exclude[i])}")


def _matches(values: dict[str, Any], excluded: dict[str, Any]) -> bool:
    return all(key in values and values[key] == value for key, value in excluded.items())
