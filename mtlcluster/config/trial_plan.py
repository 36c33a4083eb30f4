"""Plans the trials of a grid with `tune`: which settings each method tries.

All come from one Sobol sequence. The keys that all methods share take its first columns, in the order of the file; the
own options of a method take the next ones. So trial 3 has the same learning rate in every method.
"""

import copy
import itertools
import json
import math
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mtlcluster.config.draws import COLUMNS, Choice, Draw, sequence
from mtlcluster.config.grid_file import GridFile
from mtlcluster.config.grid_points import Point, zip_rows
from mtlcluster.config.method_lines import WEIGHTS, MethodLine, method_lines, number_of_columns, static_weights
from mtlcluster.config.run import RunConfig
from mtlcluster.config.search_keys import Tune
from mtlcluster.config.values import listed
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import nearest, shown
from mtlcluster.methods.catalog import by_slot, check_method, placed_method, sparse_label, sparse_method
from mtlcluster.pydantic_errors import Key
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial

LONGEST_METHOD = 50  # characters of a method's name
ROWS_PER_TRIAL, MORE_ROWS = 16, 1024  # of the sequence that are looked at, if `exclude` leaves points out

Configure = Callable[[Point], RunConfig]


@dataclass(frozen=True)
class Axis:
    """One thing that is searched.

    Attributes:
        keys: Its dotted keys: one, or those of a group of `zip`.
        place: Its place in the grid file.
        size: The number of its different values; None: too many to count.
        columns: The columns of the sequence that it takes.
        at: The values of its keys at a row of the sequence, given the row's number and the numbers from 0 to 1 in its
            columns.
    """

    keys: tuple[str, ...]
    place: Key
    size: int | None
    columns: int
    at: Callable[[int, Sequence[float]], Sequence[Any]]


@dataclass
class PlannedTrial:
    """A trial of a method with its values as settings of the grid file."""

    method: SearchedMethod
    trial: Trial
    settings: Point


@dataclass
class TrialPlan:
    """The trials of a grid.

    Attributes:
        methods: All methods: those of earlier submissions too.
        trials: The trials of the methods that the grid has now.
        columns: The shared keys that are searched.
        remarks: Sentences for the user.
    """

    methods: dict[str, SearchedMethod]
    trials: list[PlannedTrial]
    columns: list[str]
    remarks: list[str] = field(default_factory=list)


def plan_trials(
    source: YamlFile,
    file: GridFile,
    tune: Tune,
    lines: list[MethodLine],
    tasks: Sequence[str],
    earlier: Search | None,
    configure: Configure,
) -> TrialPlan:
    """Plans the trials.

    Args:
        source: The grid file.
        file: Its keys.
        tune: Its key `tune`.
        lines: Its methods.
        tasks: The tasks that the configuration names.
        earlier: The search of earlier submissions. Its trials stay.
        configure: Makes the configuration of a point.

    Raises:
        UserError: Something is wrong with the search. The message names file and line.
    """
    shared = _shared_axes(source, file)
    searched = [_searched(source, line, shared, tasks, tune) for line in lines]
    for line in searched:
        config = configure(line.point(line.first))
        line.sparse = without_options(sparse_method(config.method), line.own)
    _refuse_twice(source, searched)
    known = list(earlier.methods.values()) if earlier else []
    plan = TrialPlan({method.name: method for method in known}, [], [key for axis in shared for key in axis.keys])
    changed = False
    given = _read_given(source, file, tasks, searched)
    for line, before, points in zip(searched, _match(known, searched), given, strict=True):
        drawing = _Drawing(source, tune, line.line, line.axes, points)
        name, trials = (before.name, before.trials) if before else (_free_name(line, plan.methods), [])
        if trials:
            drawn = drawing.trials([])
            changed |= any(_text(old.values) != _text(new.values) for old, new in zip(trials, drawn, strict=False))
        if len(trials) > max(tune.trials, 1):
            plan.remarks.append(f"{name} keeps its {len(trials)} trials, more than the {tune.trials} of `tune`")
        keys = dict.fromkeys([*(before.searched if before else ()), *line.keys])
        every = [*trials, *drawing.trials(trials)]
        method = SearchedMethod(name, line.sparse, [*keys], line.line.single_task, every)
        plan.methods[name] = method
        plan.trials += [PlannedTrial(method, trial, line.point(trial.values)) for trial in every]
    if changed:
        plan.remarks.append(
            "the grid draws other settings than before: earlier trials keep theirs, new ones are drawn as it says now"
        )
    return plan


def _refuse_twice(source: YamlFile, lines: list["_Line"]) -> None:
    seen = []
    for line in lines:
        key = (line.sparse, sorted(line.own))
        if key in seen:
            source.refuse(line.line.place, f"the method {sparse_label(line.sparse)} stands twice in the grid")
        seen.append(key)


def _shared_axes(source: YamlFile, file: GridFile) -> list[Axis]:
    axes = [
        _axis(key, ("grid", key), values if isinstance(values, Draw) else Choice(choice=list(listed(values))))
        for key, values in file.grid.items()
        if key != "method"
    ]
    for number, group in enumerate(file.zip):
        rows = zip_rows(source, number, group)
        choice = Choice(choice=rows)
        axes.append(Axis(tuple(group), ("zip", number), choice.size, 1, partial(_value, choice)))
    keys = [key for axis in axes for key in axis.keys]
    for axis in axes:
        for key in axis.keys:
            if key.split(".")[0] in REFUSED:
                source.refuse(
                    (*axis.place, key) if len(axis.keys) > 1 else axis.place,
                    f"{key} can't be searched: {REFUSED[key.split('.')[0]]}",
                )
            if keys.count(key) > 1:
                source.refuse((*axis.place, key) if len(axis.keys) > 1 else axis.place, f"{key} is searched twice")
    return axes


REFUSED = {
    "seed": "give the seeds in `tune: {seeds: …}` and `confirm: {seeds: …}`, the same for all settings",
    "best": "it is the value that chooses between the settings",
    "method": "name the methods in the list `method` of `grid`, with draws for their options",
}


def _axis(key: str, place: Key, draw: Draw) -> Axis:
    return Axis((key,), place, draw.size, 1, lambda _, shares: [draw.at(shares[0])])


def _value(draw: Draw, _: int, shares: Sequence[float]) -> Any:
    return draw.at(shares[0])


def _searched(source: YamlFile, line: MethodLine, shared: list[Axis], tasks: Sequence[str], tune: Tune) -> "_Line":
    """What is searched for one method: first the shared keys, then its own options."""
    first = len(shared)
    if first + number_of_columns(line, tasks) > COLUMNS:
        source.refuse(line.place, f"more than {COLUMNS} keys are searched, the columns of the Sobol sequence")
    own = [_axis(key, line.place, draw) for key, draw in line.draws.items()]
    if count := line.weights:
        if count > tune.trials:
            words = f"draws ({count}) of static should be at most the trials of `tune` ({tune.trials}): each takes one"
            source.refuse((*line.place, "weighting", "draws"), words)
        weights = static_weights(tasks, count, first + len(own), tune.draw_seed)

        def at(row: int, _: Sequence[float]) -> list[Any]:
            # A second round begins one further, so that the same weights meet other values of the other keys.
            return [weights[(row + row // count) % count]]

        own.append(Axis((WEIGHTS,), line.place, count, len(tasks) - 1, at))
    axes = shared + own
    return _Line(line, axes, [key for axis in own for key in axis.keys], values_at(axes, 0, tune))


class _Drawing:
    """Draws the trials of one method."""

    def __init__(self, source: YamlFile, tune: Tune, line: MethodLine, axes: list[Axis], given: "_Given") -> None:
        self.source, self.tune, self.line, self.axes, self.given = source, tune, line, axes, given
        sizes = [axis.size for axis in axes]
        self.size = None if None in sizes else math.prod(size for size in sizes if size is not None)

    def trials(self, before: list[Trial]) -> list[Trial]:
        """The trials that follow on earlier ones: first those of `include`, then drawn ones."""
        wanted = self.tune.trials if self.size is None else min(self.tune.trials, self.size)
        seen = {_text(trial.values) for trial in before}
        included = [point for point in self.given.included if not any(_agrees(trial.values, point) for trial in before)]
        found: list[Trial] = []
        for values in self._rows(len(before)):
            if len(before) + len(found) >= wanted:
                break
            if included:
                values |= included.pop(0)
            elif _text(values) in seen or any(_agrees(values, point) for point in self.given.excluded):
                continue
            seen.add(_text(values))
            found.append(Trial(len(before) + len(found), values, {}))
        if included:
            words = f"`include` has more trials of this method than are left of the {wanted} of `tune`"
            self.source.refuse(("include",), words)
        if (self.size is None or not before) and len(before) + len(found) < (wanted if self.size is None else 1):
            words = f"`exclude` and narrow ranges leave {len(found)} different settings of the {wanted} of `tune`"
            self.source.refuse(self.line.place, words)
        return found

    def _rows(self, first: int) -> Iterator[dict[str, Any]]:
        for row in range(first, ROWS_PER_TRIAL * self.tune.trials + MORE_ROWS):
            yield values_at(self.axes, row, self.tune)


def values_at(axes: list[Axis], row: int, tune: Tune) -> dict[str, Any]:
    """The values of a row of the sequence, by dotted key."""
    values: dict[str, Any] = {}
    if not axes:
        return values
    shares, column = sequence(tune.draw_seed, max(row + 1, tune.trials))[row].tolist(), 0
    for axis in axes:
        values.update(zip(axis.keys, axis.at(row, shares[column : column + axis.columns]), strict=True))
        column += axis.columns
    return values


def _text(values: dict[str, Any]) -> str:
    return json.dumps(sorted(values.items()), default=str)


def _agrees(values: dict[str, Any], point: dict[str, Any]) -> bool:
    return all(key in values and values[key] == value for key, value in point.items())


@dataclass
class _Given:
    """What `include` and `exclude` say about one method, by dotted key without `method`."""

    included: list[dict[str, Any]] = field(default_factory=list)
    excluded: list[dict[str, Any]] = field(default_factory=list)


def _read_given(source: YamlFile, file: GridFile, tasks: Sequence[str], lines: list["_Line"]) -> list[_Given]:
    """Reads `include` and `exclude`, for each method."""
    found = [_Given() for _ in lines]
    for section, points in (("include", file.include), ("exclude", file.exclude)):
        for number, point in enumerate(points):
            _refuse_keys(source, (section, number), point, lines)
            if section == "include" and "method" not in point:
                source.refuse((section, number), "with `tune` a point of `include` needs its `method`")
            settings = {key: value for key, value in point.items() if key != "method"}
            if "method" not in point:
                for given in found:
                    given.excluded.append(settings)
                continue
            place: Key = (section, number, "method")
            matching = [
                (given, own)
                for one in method_lines(source, {place: point["method"]}, tasks)
                for line, given in zip(lines, found, strict=True)
                if (own := line.own_values(one, source)) is not None
            ]
            if not matching:
                words = f"{section} names a method that the grid does not have: {shown(point['method'])}"
                source.refuse(place, words)
            for given, own in matching:
                (given.included if section == "include" else given.excluded).append(settings | own)
    return found


def _refuse_keys(source: YamlFile, place: Key, point: dict[str, Any], lines: list["_Line"]) -> None:
    searched = {key for line in lines for key in line.keys}
    for key in point:
        if key == "seed":
            source.refuse((*place, key), f"seed in {place[0]}: {REFUSED['seed']}")
        if key != "method" and key not in searched:
            words = f"with `tune`, {place[0]} takes keys that are searched, and {key} is not"
            source.refuse((*place, key), f"{words}{nearest(key, searched)}")


@dataclass
class _Line:
    """A method of the grid with all that is searched for it.

    Attributes:
        line: The method.
        axes: What is searched: first the shared keys, then its own options.
        own: The dotted keys of its own options that are searched.
        first: The values of the first row of the sequence.
        sparse: The method in its sparse form, without `own`.
    """

    line: MethodLine
    axes: list[Axis]
    own: list[str]
    first: dict[str, Any]
    sparse: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [key for axis in self.axes for key in axis.keys]

    def point(self, values: dict[str, Any]) -> Point:
        """The settings of a trial with their places in the grid file."""
        places = {key: axis.place for axis in self.axes for key in axis.keys}
        method: Point = [] if self.line.method is None else [("method", self.line.method, self.line.place)]
        return method + [(key, value, places.get(key, ("tune",))) for key, value in values.items()]

    def own_values(self, other: MethodLine, source: YamlFile) -> dict[str, Any] | None:
        """The searched options that `other` fixes, if it names this method; None if it names another one."""
        try:
            placed = placed_method(other.method, source.path.parent)
            method: dict[str, Any] = by_slot(placed) if isinstance(placed, str) else dict(placed)
            for slot, chosen in method.items():
                method[slot] = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
            given = {}
            for key in self.own:
                *parents, last = key.split(".")[1:]
                inner = method
                for part in parents:
                    inner = inner[part]
                if last in inner:
                    given[key] = inner[last]
                else:
                    inner[last] = self.first[key]
            full = check_method(method)
        except (ValueError, KeyError, TypeError):
            return None
        return given if without_options(sparse_method(full), self.own) == self.sparse else None


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


def _match(known: list[SearchedMethod], lines: list[_Line]) -> list[SearchedMethod | None]:
    """The method of an earlier submission that each line continues; None for a new one."""
    left, found = list(known), dict[int, SearchedMethod]()
    for exactly in (True, False):  # a method whose options were not searched before is the same one nevertheless
        for number, line in enumerate(lines):
            for method in left if number not in found else ():
                own = [key for key in method.searched if key.startswith("method.")]
                same = (method.method, method.single_task) == (line.sparse, line.line.single_task)
                if same and (not exactly or set(own) == set(line.own)):
                    found[number] = method
                    left.remove(method)
                    break
    return [found.get(number) for number in range(len(lines))]


def _free_name(line: _Line, taken: Container[str]) -> str:
    """A name for a new method: its label in characters that file names may have."""
    label = sparse_label(line.sparse)
    if line.line.single_task:
        label = label.replace("task=", "")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-._")[:LONGEST_METHOD].rstrip("-._") or "method"
    names = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
