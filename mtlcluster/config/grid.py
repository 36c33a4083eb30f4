"""A grid file: read, checked and expanded into runs, each with its name and its identity."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import pydantic
from pydantic import Field

from mtlcluster.config.job_file import JobFile, asked_code, find_job
from mtlcluster.config.run import PLACED, Resources, RunConfig, placed, run_hash
from mtlcluster.config.yaml_file import YamlFile, unquoted
from mtlcluster.errors import UserError, shown
from mtlcluster.methods.catalog import OWN, by_slot, method_label, own_file, placed_method, sparse_method
from mtlcluster.pydantic_errors import Checked, Key, first_mistake
from mtlcluster.sweep import names

LONGEST_NAME = 100


class Range(Checked):
    range: int | list[int]

    @pydantic.field_validator("range", mode="wrap")
    @classmethod
    def _either_form(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> int | list[int]:
        with suppress(pydantic.ValidationError):  # which has one mistake for either form
            bounds: int | list[int] = check(value)
            if isinstance(bounds, int) or (2 <= len(bounds) <= 3 and bounds[2:] != [0]) or len(bounds) == 1:
                return bounds
        raise ValueError(f"should be a count or [start, stop] or [start, stop, step], found {shown(value)}")

    def values(self) -> Sequence[int]:
        """As Python's range: a count, or start and stop and possibly step."""
        return range(*([self.range] if isinstance(self.range, int) else self.range))


def _list_or_range(value: Any, _: pydantic.ValidatorFunctionWrapHandler) -> list[Any] | Range:
    if isinstance(value, dict):
        return Range.model_validate(value)
    if isinstance(value, list | Range):
        return value
    raise ValueError(f"should be a list of values, or {{range: …}}, found {shown(value)}")


Values = Annotated[list[Any] | Range, pydantic.WrapValidator(_list_or_range)]


class GridFile(Checked):
    name: str
    job: str | None = None
    base: str | None = None
    set: dict[str, Any] = {}
    grid: dict[str, Values] = {}
    zip: list[dict[str, list[Any]]] = []
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    resources: Resources = Resources()
    runs_per_job: int = Field(default=1, gt=0)
    at_once: int = Field(default=1, gt=0)
    code: list[str] = []
    cluster: str | None = None

    @pydantic.field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not names.fits(names.SWEEP, name):
            raise ValueError(
                f"name should be at most 100 letters, digits, '.', '_' and '-', first a letter or digit, not {name!r}"
            )
        return name

    @pydantic.model_validator(mode="after")
    def _packs_fit(self) -> "GridFile":
        if self.at_once > self.runs_per_job:
            raise ValueError(f"at_once ({self.at_once}) should be at most runs_per_job ({self.runs_per_job})")
        return self


@dataclass(frozen=True)
class PlannedRun:
    """One point of a grid."""

    name: str  # of its folder, if it is new: the varied values and the hash
    hash: str
    config: RunConfig
    varied: dict[str, Any]  # by dotted key; `method` in its sparse form


@dataclass
class Grid:
    """A grid file that has been checked, and its runs in the order in which the file gives them."""

    path: Path
    file: GridFile
    job: JobFile
    runs: list[PlannedRun]
    repeated: int = 0  # points that are the same run as another point
    resolved: dict[str, Any] = field(default_factory=dict)  # what goes into sweep.yaml
    methods: list[Path] = field(default_factory=list)  # the files of methods of one's own
    code: list[Path] = field(default_factory=list)  # what else is to be in the code of the runs


@dataclass
class _Source:
    """Which file and line a value of a point comes from."""

    file: YamlFile
    key: Key


def read_grid(path: Path, max_runs: int = 10_000) -> Grid:
    """Reads and expands a grid. Raises UserError, naming file and line, for whatever is wrong with it."""
    yaml_file = YamlFile(path)
    if "grid" not in yaml_file.data and "name" not in yaml_file.data and "job" in yaml_file.data:
        raise UserError(f"{path}: this is the configuration of one run, not a grid; train it by `mtlcluster train`")
    try:
        file = GridFile.model_validate(yaml_file.data)
    except pydantic.ValidationError as error:
        yaml_file.refuse(*first_mistake(error, GridFile))
    base = _read_base(yaml_file, file)
    job_name = file.job or (base.data.get("job") if base else None) or file.set.get("job")
    if not isinstance(job_name, str):
        raise UserError(f"{path}:1: missing key 'job': which file in jobs/ describes the experiment")
    try:
        job = find_job(job_name, path.parent)
    except UserError as error:
        yaml_file.refuse(("job",), str(error))
    try:
        code = asked_code(job.root, file.code)
    except UserError as error:
        yaml_file.refuse(("code",), str(error))
    points, count = _points(yaml_file, file, max_runs)
    if count > max_runs:
        yaml_file.refuse(("grid",), f"{count:,} points; the limit is {max_runs:,} (--max-runs changes it)")
    runs: dict[str, PlannedRun] = {}
    own: dict[str, Path] = {}
    repeated = 0
    written: dict[Any, PlannedRun] = {}
    for point in _without_excluded(yaml_file, file, points):
        run = _plan(yaml_file, file, base, job, point)
        _note_own(yaml_file, run, own)
        if file.at_once > 1 and run.config.resources.nodes > 1:
            yaml_file.refuse(
                ("at_once",),
                f"at_once ({file.at_once}) and resources.nodes ({run.config.resources.nodes}): a run on several nodes "
                "has them to itself; runs_per_job without at_once trains one after another",
            )
        if (same := runs.get(run.hash)) and same.varied != run.varied:
            yaml_file.refuse(
                ("grid",),
                f"two points are the same run: {shown(same.varied)} and {shown(run.varied)} differ in nothing that "
                "decides the result (of a path in data only the last part counts)",
            )
        seen = {key: job.converted(key, value) for key, value in run.varied.items()}
        _refuse_alike(yaml_file, run, written.setdefault(_alike(seen), run), point)
        repeated += same is not None
        runs.setdefault(run.hash, run)
    if not runs:
        yaml_file.refuse(("grid",), "the grid has no points")
    resolved = {**file.model_dump(exclude_defaults=True), "job": job.reference}
    if base:
        resolved["base"] = base.data
    methods = sorted(set(own.values()))
    return Grid(path, file, job, list(runs.values()), repeated, resolved, methods, code)


def _refuse_alike(grid: YamlFile, run: PlannedRun, other: PlannedRun, point: "Point") -> None:
    """Two values that differ in their type alone, such as 8 and '8', are two by mistake: the runs are called alike."""
    if run.hash == other.hash:
        return
    for key, value, where in point:
        before = other.varied.get(key)
        if repr(value) != repr(before) and _kinds(value) != _kinds(before):
            grid.refuse(where, f"{key}: {shown(before)} and {shown(value)} read alike; write both in the same way")


def _alike(value: Any) -> Any:
    """The same for all values that read alike, whatever their type."""
    if isinstance(value, dict):
        return frozenset((key, _alike(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return tuple(map(_alike, value))
    with suppress(ValueError):
        value = unquoted(value) if isinstance(value, str) else value
    return ("truth", value) if isinstance(value, bool) else value


def _kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _kinds(inner) for key, inner in value.items()}
    return [_kinds(inner) for inner in value] if isinstance(value, list) else type(value)


def _note_own(grid: YamlFile, run: PlannedRun, found: dict[str, Path]) -> None:
    """Adds the run's methods of one's own to `found`, by file name and by class. Refuses two that are called alike:
    identities and figures leave folders out, and could not tell them apart.
    """
    for name in (chosen["name"] for chosen in run.config.method.values() if OWN in chosen["name"]):
        file = own_file(name)
        for called in (file.name, name.rpartition(":")[2]):
            if (other := found.setdefault(called, file)) != file:
                message = f"two methods of your own are called {called}: in {other} and in {file}; rename one"
                grid.refuse(("grid",), message)


def _read_base(grid: YamlFile, file: GridFile) -> YamlFile | None:
    if file.base is None:
        return None
    path = grid.path.parent / file.base
    if not path.is_file():
        grid.refuse(("base",), f"base: there is no file {path}")
    return YamlFile(path)


Point = list[tuple[str, Any, Key]]  # dotted key, value, and where in the grid file it stands


def _points(grid: YamlFile, file: GridFile, max_runs: int) -> tuple[Iterator[Point], int]:
    """Every combination of `grid` and of the groups of `zip`, then the points of `include`; and how many they are."""
    axes: list[Iterable[Point]] = []
    given = {key: _values(grid, key, value) for key, value in file.grid.items()}
    count = math.prod(map(_length, given.values()))
    if count > max_runs:  # before anything of that size is made
        grid.refuse(("grid",), f"{_many(count)} points; the limit is {max_runs:,} (--max-runs changes it)")
    for key, values in given.items():
        where: Key = ("grid", key)
        in_list = not isinstance(file.grid[key], Range)
        axes.append([[(key, v, (*where, i) if in_list else where)] for i, v in enumerate(values)])
    for i, group in enumerate(file.zip):
        lengths = {key: len(values) for key, values in group.items()}
        if len(set(lengths.values())) != 1:
            grid.refuse(("zip", i), f"lists that advance together should be equally long, found {lengths}")
        rows = range(next(iter(lengths.values())))
        count *= len(rows)
        axes.append([[(key, values[j], ("zip", i, key, j)) for key, values in group.items()] for j in rows])
    if not file.grid and not file.zip and not file.include:
        grid.refuse(("grid",), "the grid is empty: give at least one key with a list of values")
    product = itertools.product(*axes) if axes else iter(())
    included: list[Point] = [
        [(key, v, ("include", i, key)) for key, v in point.items()] for i, point in enumerate(file.include)
    ]
    count = (count if axes else 0) + len(included)
    return itertools.chain((list(itertools.chain(*parts)) for parts in product), included), count


def _values(grid: YamlFile, key: str, given: list[Any] | Range) -> Sequence[Any]:
    values = given.values() if isinstance(given, Range) else given
    if not values:
        grid.refuse(("grid", key), f"grid.{key} has no values")
    return values


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than 10^15"


def _length(values: Sequence[Any]) -> int:
    """Also of ranges for which `len` is too small."""
    if not isinstance(values, range):
        return len(values)
    return (values[-1] - values[0]) // values.step + 1


def _without_excluded(grid: YamlFile, file: GridFile, points: Iterator[Point]) -> Iterator[Point]:
    used = [False] * len(file.exclude)
    for point in points:
        values = {key: value for key, value, _ in point}
        matching = [i for i, left_out in enumerate(file.exclude) if left_out.items() <= _Items(values)]
        for i in matching:
            used[i] = True
        if not matching:
            yield point
    for i, was_used in enumerate(used):
        if not was_used:
            grid.refuse(("exclude", i), f"exclude matches no point: {shown(file.exclude[i])}")


class _Items:
    """The items of a dict whose values need not be hashable, for `<=`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __ge__(self, other: Any) -> bool:
        return all(key in self.values and self.values[key] == value for key, value in other)


def _plan(grid: YamlFile, file: GridFile, base: YamlFile | None, job: JobFile, point: Point) -> PlannedRun:
    values: dict[str, Any] = {}
    sources: dict[Key, _Source] = {}
    settings: list[tuple[str, Any, _Source]] = []
    if base:
        settings += [(str(key), value, _Source(base, (key,))) for key, value in base.data.items()]
    settings += [(key, value, _Source(grid, ("set", key))) for key, value in file.set.items()]
    if "resources" in file.model_fields_set:
        settings.append(("resources", file.resources.model_dump(exclude_unset=True), _Source(grid, ("resources",))))
    # A shallow key before a deeper one: `method` before `method.weighting`.
    by_depth = sorted(point, key=lambda setting: setting[0].count("."))
    settings += [(key, value, _Source(grid, where)) for key, value, where in by_depth]
    for dotted_key, value, source in settings:
        if dotted_key.split(".")[0] in PLACED:
            value = placed(value, source.file.path.parent)
        if dotted_key.split(".")[0] == "method":
            value = placed_method(value, source.file.path.parent)
        _set(values, dotted_key, value, source)
        sources[tuple(dotted_key.split("."))] = source
    values["job"] = job.reference
    try:
        config = RunConfig(**values)
    except pydantic.ValidationError as error:
        key, message = first_mistake(error, RunConfig)
        _refuse(grid, sources, key, message)
    if mistake := job.first_mistake(config.data, config.model):
        _refuse(grid, sources, *mistake)
    varied = {key: value for key, value, _ in point}
    if "method" in varied:
        varied["method"] = sparse_method(config.method)
    run_id = run_hash(config)
    return PlannedRun(_run_name(varied, config, run_id), run_id, config, varied)


def _set(values: dict[str, Any], dotted_key: str, value: Any, source: _Source) -> None:
    *parents, last = dotted_key.split(".")
    inner = values
    for depth, part in enumerate(parents):
        existing = inner.get(part, {})
        if not isinstance(existing, dict):
            if (part, depth) == ("method", 0) and isinstance(existing, str):
                try:
                    existing = by_slot(existing)
                except ValueError as error:
                    source.file.refuse(source.key, str(error))
            else:
                source.file.refuse(source.key, f"{dotted_key}: '{part}' is {shown(existing)}, which has no keys inside")
        inner[part] = inner = dict(existing)
    inner[last] = value


def _refuse(grid: YamlFile, sources: dict[Key, _Source], key: Key, message: str) -> NoReturn:
    """Reports a mistake of one point where the offending value stands: in the grid, in `set` or in the base."""
    for given, source in sources.items():
        if key and given[: len(key)] == tuple(str(part) for part in key):  # `optimzer`, of `optimzer.lr`
            source.file.refuse(source.key, message)
    for length in range(len(key), 0, -1):
        place = tuple(str(part) for part in key[:length])
        if place in sources:
            sources[place].file.refuse((*sources[place].key, *key[length:]), message)
    grid.refuse((), message)


def _run_name(varied: dict[str, Any], config: RunConfig, run_id: str) -> str:
    """`pcgrad-seed=2-3f9a1c5e20`: the varied values and the hash, in characters that every file system takes."""
    parts = []
    for key, value in varied.items():
        text = method_label(config.method) if key == "method" else f"{key.split('.')[-1]}={_short(value)}"
        parts.append(re.sub(r"[^A-Za-z0-9._=+,()-]+", "_", text))
    name = "-".join(parts)[: LONGEST_NAME - len(run_id) - 1].replace("(", ",").replace(")", "").strip("-.")
    return f"{name}-{run_id}" if name else run_id


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ",".join(f"{k}={_short(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "+".join(_short(v) for v in value)
    name = str(value).rsplit("/", 1)[-1]
    return name.rpartition(":")[2] if OWN in name else name
