"""The configuration of one point of a grid, from the base, `set`, `resources` and the point's own settings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pydantic

from mtlcluster.config.grid_file import GridFile
from mtlcluster.config.grid_points import Point
from mtlcluster.config.job_file import JobFile
from mtlcluster.config.run import PLACED, RunConfig, placed
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import nearest, shown
from mtlcluster.methods.catalog import by_slot, placed_method
from mtlcluster.pydantic_errors import Key, first_mistake

SMALLER_IS_BETTER = ("relative_loss", "mean_loss")  # of the values over all tasks
LARGER_IS_BETTER = ("mean_f1", "exact_match", "hamming_score")


@dataclass(frozen=True)
class GridSource:
    """What the runs of a grid are planned from.

    Attributes:
        grid: The grid file.
        file: Its keys, checked.
        base: The configuration that it names as its base.
        job: Its job.
        defaults: The version of the defaults that its runs get.
    """

    grid: YamlFile
    file: GridFile
    base: YamlFile | None
    job: JobFile
    defaults: int

    @property
    def tasks(self) -> list[str]:
        """The tasks that the base or `set` names; empty if they name none."""
        tasks = self.file.set.get("tasks", self.base.data.get("tasks") if self.base else None)
        return tasks if isinstance(tasks, list) and all(isinstance(task, str) for task in tasks) else []


@dataclass
class _Place:
    """The file and the place of a value."""

    file: YamlFile
    key: Key


def configure(source: GridSource, point: Point) -> RunConfig:
    """The configuration of one point: the values of the base, of `set`, of `resources` and of the point, each over the
    last.

    Args:
        source: What it is made from.
        point: Its settings.

    Raises:
        UserError: A value is wrong. The message names file and line.
    """
    grid, job = source.grid, source.job
    values: dict[str, Any] = {}
    places: dict[Key, _Place] = {}
    for dotted_key, value, given in _settings(source, point):
        section = dotted_key.split(".")[0]
        if section in PLACED:
            value = placed(value, given.file.path.parent)
        if section == "method":
            value = placed_method(value, given.file.path.parent)
        _set(values, dotted_key, value, given)
        places[tuple(dotted_key.split("."))] = given
    values["job"] = job.reference
    try:
        config = RunConfig.model_validate(values, context={"defaults": source.defaults})
    except pydantic.ValidationError as error:
        _refuse(grid, places, *first_mistake(error, RunConfig))
    if mistake := job.first_mistake(config.data, config.model):
        _refuse(grid, places, *mistake)
    return config


def _settings(source: GridSource, point: Point) -> list[tuple[str, Any, _Place]]:
    """All settings of a point, in the order in which they apply: dotted key, value and place."""
    grid, file, base = source.grid, source.file, source.base
    settings: list[tuple[str, Any, _Place]] = []
    if base:
        settings += [(str(key), value, _Place(base, (key,))) for key, value in base.data.items()]
    settings += [(key, value, _Place(grid, ("set", key))) for key, value in file.set.items()]
    if file.tune and file.tune.value and not any(key.split(".")[0] == "best" for key, _, _ in settings):
        place = _Place(grid, ("tune", "value"))
        settings.append(("best", _best(place, file.tune.value, source.tasks), place))
    if "resources" in file.model_fields_set:
        settings.append(("resources", file.resources.model_dump(exclude_unset=True), _Place(grid, ("resources",))))
    # A shallow key before a deeper one: `method` before `method.weighting`.
    by_depth = sorted(point, key=lambda setting: setting[0].count("."))
    return settings + [(key, value, _Place(grid, where)) for key, value, where in by_depth]


def _best(place: _Place, value: str, tasks: Sequence[str]) -> dict[str, str]:
    """The setting `best` for the value that chooses. Refuses a value that there can't be, or whose better direction is
    not known.
    """
    if value in LARGER_IS_BETTER:
        return {"value": value, "direction": "max"}
    task, slash, _ = value.rpartition("/")
    if not slash and value not in SMALLER_IS_BETTER:
        over_all = [*SMALLER_IS_BETTER, *LARGER_IS_BETTER]
        place.file.refuse(place.key, f"there is no validation value '{value}' over all tasks{nearest(value, over_all)}")
    if slash and tasks and task not in tasks:
        place.file.refuse(place.key, f"'{value}' names the task '{task}', which is not in tasks{nearest(task, tasks)}")
    if not slash or value.endswith("/loss"):
        return {"value": value, "direction": "min"}
    line = f"set: {{best: {{value: {value}, direction: max}}}}"
    place.file.refuse(place.key, f"which direction of {value} is better? add to the grid, with max or min: {line}")


def _set(values: dict[str, Any], dotted_key: str, value: Any, place: _Place) -> None:
    *parents, last = dotted_key.split(".")
    inner = values
    for depth, part in enumerate(parents):
        existing = inner.get(part, {})
        if not isinstance(existing, dict):
            if (part, depth) == ("method", 0) and isinstance(existing, str):
                try:
                    existing = by_slot(existing)
                except ValueError as error:
                    place.file.refuse(place.key, str(error))
            else:
                place.file.refuse(place.key, f"{dotted_key}: '{part}' is {shown(existing)}, which has no keys inside")
        inner[part] = inner = dict(existing)
    inner[last] = value


def _refuse(grid: YamlFile, places: dict[Key, _Place], key: Key, message: str) -> NoReturn:
    """Refuses a value of one point at its place: in the grid, in `set` or in the base."""
    for given, place in places.items():
        if key and given[: len(key)] == tuple(
            str(part) for part in key
        ):  # such as `optimzer`, where `optimzer.lr` is given
            _refuse_at(place, (), message)
    for length in range(len(key), 0, -1):
        outer = tuple(str(part) for part in key[:length])
        if outer in places:
            _refuse_at(places[outer], key[length:], message)
    grid.refuse((), message)


def _refuse_at(place: _Place, inside: Key, message: str) -> NoReturn:
    if place.key[0] == "grid" and re.search(r"integer.*, found -?\d+\.", message):
        message += "; for whole numbers write {range: [first, end]} or a list"
    place.file.refuse((*place.key, *inside), message)
