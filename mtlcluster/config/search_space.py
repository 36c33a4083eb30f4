"""What a grid with `tune` searches: the keys that all methods share, and the own options of each method."""

import copy
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from mtlcluster.config.draws import COLUMNS, Choice, Draw, sequence
from mtlcluster.config.grid_file import GridFile
from mtlcluster.config.grid_points import Point, few_values, zip_rows
from mtlcluster.config.method_lines import MethodLine, number_of_columns, static_weights
from mtlcluster.config.point_config import GridSource, configure
from mtlcluster.config.search_keys import Tune
from mtlcluster.config.values import Values
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.methods.catalog import by_slot, check_method, placed_method, sparse_label, sparse_method
from mtlcluster.pydantic_errors import Key
from mtlcluster.sweep.trials import STATIC_WEIGHTS

REFUSED = {
    "seed": "give the seeds in `tune: {seeds: …}` and `confirm: {seeds: …}`, the same for all settings",
    "best": "it is the value that chooses between the settings",
    "method": "name the methods in the list `method` of `grid`, with draws for their options",
}


@dataclass(frozen=True)
class Axis:
    """One thing that is searched.

    Attributes:
        keys: Its dotted keys: one, or those of a group of `zip`.
        place: Its place in the grid file.
        rows: All that it can be, each with a value for each key; None: too many to count.
        columns: The columns of the sequence that it takes.
        at: The values of its keys at a row of the sequence, given the row's number and the numbers from 0 to 1 in its
            columns.
    """

    keys: tuple[str, ...]
    place: Key
    rows: Sequence[Sequence[Any]] | None
    columns: int
    at: Callable[[int, Sequence[float]], Sequence[Any]]


@dataclass
class MethodSpace:
    """A method of the grid with all that is searched for it.

    Attributes:
        line: The method.
        axes: What is searched: first the shared keys, then its own options.
        own: The dotted keys of its own options that are searched.
        tune: How many trials are drawn, and the seed of the sequence.
        sparse: The method in its sparse form, without `own`.
    """

    line: MethodLine
    axes: list[Axis]
    own: list[str]
    tune: Tune
    sparse: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The dotted keys of all that is searched."""
        return [key for axis in self.axes for key in axis.keys]

    @property
    def size(self) -> int | None:
        """The number of different settings; None: too many to count."""
        rows = [axis.rows for axis in self.axes]
        return None if None in rows else math.prod(len(axis) for axis in rows if axis is not None)

    def at(self, row: int) -> dict[str, Any]:
        """The values at a row of the sequence, by dotted key."""
        values: dict[str, Any] = {}
        if not self.axes:
            return values
        shares, column = sequence(self.tune.draw_seed, max(row + 1, self.tune.trials))[row].tolist(), 0
        for axis in self.axes:
            values.update(zip(axis.keys, axis.at(row, shares[column : column + axis.columns]), strict=True))
            column += axis.columns
        return values

    def can_be(self, values: dict[str, Any]) -> bool:
        """True if a setting may have these values of some of its keys."""
        if not values.keys() <= {*self.keys}:
            return False
        for axis in self.axes:
            given = [(place, values[key]) for place, key in enumerate(axis.keys) if key in values]
            if axis.rows is not None and not any(all(row[i] == value for i, value in given) for row in axis.rows):
                return False
        return True

    def point(self, values: dict[str, Any], given: Mapping[str, Key] = MappingProxyType({})) -> Point:
        """The settings of a trial with their places in the grid file.

        Args:
            values: The values by dotted key.
            given: The places of those that are not drawn.
        """
        places = {key: axis.place for axis in self.axes for key in axis.keys} | dict(given)
        method: Point = [] if self.line.method is None else [("method", self.line.method, self.line.place)]
        return method + [(key, value, places.get(key, ("tune",))) for key, value in values.items()]

    def own_values(self, source: GridSource, other: MethodLine) -> dict[str, Any] | None:
        """The searched options that `other` fixes, if it names this method; None if it names another one."""
        first, given = self.at(0), {}
        try:
            placed = placed_method(copy.deepcopy(other.method), source.grid.path.parent)
            method: dict[str, Any] = by_slot(placed) if isinstance(placed, str) else placed
            for slot, chosen in method.items():
                method[slot] = {"name": chosen} if isinstance(chosen, str) else chosen
            for key in self.own:
                *parents, last = key.split(".")[1:]
                inner = functools.reduce(operator.getitem, parents, method)
                if last in inner:
                    given[key] = inner[last]
                else:
                    inner[last] = first[key]
            full = check_method(method, source.defaults)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return given if without_options(sparse_method(full), self.own) == self.sparse else None


def method_spaces(source: GridSource, tune: Tune, lines: list[MethodLine]) -> list[MethodSpace]:
    """What is searched for each method.

    Raises:
        UserError: A key can't be searched, there are too many keys, or a method stands twice.
    """
    shared = _shared_axes(source.grid, source.file)
    spaces: list[MethodSpace] = []
    for line in lines:
        space = _space(source, tune, line, shared)
        if any((space.sparse, {*space.own}) == (other.sparse, {*other.own}) for other in spaces):
            source.grid.refuse(line.place, f"the method {sparse_label(space.sparse)} stands twice in the grid")
        spaces.append(space)
    return spaces


def without_options(sparse: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A method in its sparse form without some of its options.

    Args:
        sparse: The method.
        keys: The dotted keys of the options, such as `method.weighting.alpha`.
    """
    result = copy.deepcopy(sparse)
    for key in keys:
        *parents, last = key.split(".")[1:]
        inner = result
        for part in parents:
            inner = inner.get(part, {})
        inner.pop(last, None)
    return result


def _shared_axes(source: YamlFile, file: GridFile) -> list[Axis]:
    """What is searched for all methods: the keys of `grid` in the order of the file, then the groups of `zip`."""
    axes = [
        _axis(key, ("grid", key), values if isinstance(values, Draw) else _choice(source, key, values))
        for key, values in file.grid.items()
        if key != "method"
    ]
    for number, group in enumerate(file.zip):
        rows = zip_rows(source, number, group)
        choice = Choice(choice=rows)
        axes.append(Axis(tuple(group), ("zip", number), rows, 1, partial(_value, choice)))
    keys = [key for axis in axes for key in axis.keys]
    for axis, key in ((one, key) for one in axes for key in one.keys):
        place = (*axis.place, key) if len(axis.keys) > 1 else axis.place
        if reason := REFUSED.get(key.split(".")[0]):
            source.refuse(place, f"{key} can't be searched: {reason}")
        if keys.count(key) > 1:
            source.refuse(place, f"{key} is searched twice")
    return axes


def _axis(key: str, place: Key, draw: Draw) -> Axis:
    rows = [(value,) for value in draw.choice] if isinstance(draw, Choice) else None
    return Axis((key,), place, rows, 1, lambda _, shares: [draw.at(shares[0])])


def _choice(source: YamlFile, key: str, values: Values) -> Choice:
    return Choice(choice=few_values(source, ("grid", key), values))


def _value(draw: Draw, _: int, shares: Sequence[float]) -> Any:
    return draw.at(shares[0])


def _space(source: GridSource, tune: Tune, line: MethodLine, shared: list[Axis]) -> MethodSpace:
    """What is searched for one method: first the shared keys, then its own options."""
    first, tasks = len(shared), source.tasks
    if first + number_of_columns(line, tasks) > COLUMNS:
        source.grid.refuse(line.place, f"more than {COLUMNS} keys are searched, the columns of the Sobol sequence")
    own = [_axis(key, line.place, draw) for key, draw in line.draws.items()]
    if count := line.weights:
        if count > tune.trials:
            words = f"draws ({count}) of static should be at most the trials of `tune` ({tune.trials}): each takes one"
            source.grid.refuse((*line.place, "weighting", "draws"), words)
        weights = static_weights(tasks, count, first + len(own), tune.draw_seed)

        def at(row: int, _: Sequence[float]) -> list[Any]:
            # A second round begins one further, so that the same weights meet other values of the other keys.
            return [weights[(row + row // count) % count]]

        own.append(Axis((STATIC_WEIGHTS,), line.place, [(one,) for one in weights], len(tasks) - 1, at))
    space = MethodSpace(line, shared + own, [key for axis in own for key in axis.keys], tune)
    space.sparse = without_options(sparse_method(configure(source, space.point(space.at(0))).method), space.own)
    return space
