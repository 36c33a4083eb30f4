"""Plans the trials of a grid with `tune`: which settings each method tries.

All come from one Sobol sequence. The keys that all methods share take its first columns, in the order of the file; the
own options of a method take the next ones. So trial 3 has the same learning rate in every method.
"""

import itertools
import json
import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from mtlcluster.config.grid_points import Point
from mtlcluster.config.method_lines import MethodLine, method_lines
from mtlcluster.config.point_config import GridSource, configure
from mtlcluster.config.search_keys import Tune
from mtlcluster.config.search_space import REFUSED, MethodSpace, method_spaces
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import nearest, shown
from mtlcluster.methods.catalog import sparse_label
from mtlcluster.pydantic_errors import Key
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial

LONGEST_METHOD = 50  # characters of a method's name
ROWS_PER_TRIAL, MORE_ROWS = 16, 1024  # of the sequence that are looked at, if `exclude` leaves points out


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


def plan_trials(source: GridSource, tune: Tune, lines: list[MethodLine], earlier: Search | None) -> TrialPlan:
    """Plans the trials.

    Args:
        source: The grid.
        tune: Its key `tune`.
        lines: Its methods.
        earlier: The search of earlier submissions. Its trials stay.

    Raises:
        UserError: Something is wrong with the search. The message names file and line.
    """
    spaces = method_spaces(source, tune, lines)
    known = list(earlier.methods.values()) if earlier else []
    columns = [key for key in spaces[0].keys if key not in spaces[0].own]
    plan, changed = TrialPlan({method.name: method for method in known}, [], columns), False
    for space, before, given in zip(spaces, _match(known, spaces), _read_given(source, spaces), strict=True):
        drawing = _Drawing(source.grid, tune, space, given)
        name, trials = (before.name, before.trials) if before else (_free_name(space, plan.methods), [])
        if trials:
            drawn = drawing.trials([])
            changed |= any(_text(old.values) != _text(new.values) for old, new in zip(trials, drawn, strict=False))
        if len(trials) > max(tune.trials, 1):
            plan.remarks.append(f"{name} keeps its {len(trials)} trials, more than the {tune.trials} of `tune`")
        keys = dict.fromkeys([*(before.searched if before else ()), *space.keys])
        every = [*trials, *drawing.trials(trials)]
        plan.methods[name] = SearchedMethod(name, space.sparse, [*keys], space.line.single_task, every)
        plan.trials += [PlannedTrial(plan.methods[name], trial, space.point(trial.values)) for trial in every]
    if changed:
        words = (
            "the grid draws other settings than before: earlier trials keep theirs, new ones are drawn as it says now"
        )
        plan.remarks.append(words)
    return plan


class _Drawing:
    """Draws the trials of one method."""

    def __init__(self, source: YamlFile, tune: Tune, space: MethodSpace, given: "_Given") -> None:
        self.source, self.space, self.given, self.rows = source, space, given, ROWS_PER_TRIAL * tune.trials + MORE_ROWS
        settings = tune.trials if space.size is None else space.size + len(given.included)
        self.wanted = min(tune.trials, settings)

    def trials(self, before: list[Trial]) -> list[Trial]:
        """The trials that follow on earlier ones: first those of `include`, then drawn ones."""
        seen = {_text(trial.values) for trial in before}
        included = [point for point in self.given.included if not any(_agrees(trial.values, point) for trial in before)]
        found: list[Trial] = []
        for row in range(len(before), self.rows):
            if len(before) + len(found) >= self.wanted:
                break
            given = included.pop(0) if included else None
            values = self.space.at(row) | (given or {})
            text = _text(values)
            if given is None and (text in seen or any(_agrees(values, point) for point in self.given.excluded)):
                continue
            seen.add(text)
            found.append(Trial(len(before) + len(found), values, {}))
        if included:
            words = f"`include` has more trials of this method than are left of the {self.wanted} of `tune`"
            self.source.refuse(("include",), words)
        # Where all settings can be counted, `exclude` may leave fewer of them than there are trials.
        if len(before) + len(found) < (self.wanted if self.space.size is None else 1):
            words = f"`exclude` and narrow ranges leave {len(found)} different settings of the {self.wanted} of `tune`"
            self.source.refuse(self.space.line.place, words)
        return found


def _text(values: dict[str, Any]) -> str:
    return json.dumps(sorted(values.items()), default=str)


def _agrees(values: dict[str, Any], point: dict[str, Any]) -> bool:
    return all(key in values and values[key] == value for key, value in point.items())


@dataclass
class _Given:
    """What `include` and `exclude` say about one method, by dotted key without `method`."""

    included: list[dict[str, Any]] = field(default_factory=list)
    excluded: list[dict[str, Any]] = field(default_factory=list)


def _read_given(source: GridSource, spaces: list[MethodSpace]) -> list[_Given]:
    """Reads `include` and `exclude`, for each method."""
    found = [_Given() for _ in spaces]
    for section, points in (("include", source.file.include), ("exclude", source.file.exclude)):
        for number, point in enumerate(points):
            _refuse_keys(source.grid, (section, number), point, spaces)
            if section == "include" and "method" not in point:
                source.grid.refuse((section, number), "with `tune` a point of `include` needs its `method`")
            can_match = False
            for i, own in _methods_of(source, (section, number, "method"), point, spaces):
                values = {key: value for key, value in point.items() if key != "method"} | own
                (found[i].included if section == "include" else found[i].excluded).append(values)
                if values.keys() <= {*spaces[i].keys}:  # a wrong value is refused here, at its own place
                    places = {key: (section, number, key if key in point else "method") for key in values}
                    configure(source, spaces[i].point(spaces[i].at(0) | values, places))
                can_match |= spaces[i].can_be(values)
            if section == "exclude" and not can_match:
                source.grid.refuse((section, number), f"exclude matches no setting: {shown(point)}")
    return found


def _methods_of(
    source: GridSource, place: Key, point: dict[str, Any], spaces: list[MethodSpace]
) -> list[tuple[int, dict[str, Any]]]:
    """The methods that a point of `include` or `exclude` means: their numbers, and the own options that it fixes.

    Args:
        source: The grid.
        place: The place of the point's method in it.
        point: The point. Without `method` it means all methods.
        spaces: The methods of the grid.
    """
    if "method" not in point:
        return [(number, {}) for number in range(len(spaces))]
    lines = method_lines(source.grid, {place: point["method"]}, source.tasks)
    matching = [(number, space.own_values(source, line)) for line in lines for number, space in enumerate(spaces)]
    if all(own is None for _, own in matching):
        words = f"{place[0]} names a method that the grid does not have: {shown(point['method'])}"
        source.grid.refuse(place, words)
    return [(number, own) for number, own in matching if own is not None]


def _refuse_keys(source: YamlFile, place: Key, point: dict[str, Any], spaces: list[MethodSpace]) -> None:
    searched = {key for space in spaces for key in space.keys}
    for key in point:
        if key == "seed":
            source.refuse((*place, key), f"seed in {place[0]}: {REFUSED['seed']}")
        if key != "method" and key not in searched:
            words = f"with `tune`, {place[0]} takes keys that are searched, and {key} is not"
            source.refuse((*place, key), f"{words}{nearest(key, searched)}")


def _match(known: list[SearchedMethod], spaces: list[MethodSpace]) -> list[SearchedMethod | None]:
    """The method of an earlier submission that each one continues; None for a new one."""
    left, found = list(known), dict[int, SearchedMethod]()
    for exactly in (True, False):  # a method whose options were not searched before is the same one nevertheless
        for number, space in enumerate(spaces):
            for method in left if number not in found else ():
                own = [key for key in method.searched if key.startswith("method.")]
                same = (method.method, method.single_task) == (space.sparse, space.line.single_task)
                if same and (not exactly or set(own) == set(space.own)):
                    found[number] = method
                    left.remove(method)
                    break
    return [found.get(number) for number in range(len(spaces))]


def _free_name(space: MethodSpace, taken: Container[str]) -> str:
    """A name for a new method: its label in characters that file names may have."""
    label = sparse_label(space.sparse)
    if space.line.single_task:
        label = label.replace("task=", "")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-._")[:LONGEST_METHOD].rstrip("-._") or "method"
    names = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
