"""Reads a grid file, checks it and plans its runs, each with its name and its identity."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from mtlcluster.config.draws import Draw
from mtlcluster.config.grid_file import GridFile
from mtlcluster.config.grid_points import Point, expand
from mtlcluster.config.job_file import JobFile, asked_code, find_job
from mtlcluster.config.method_lines import MethodLine, method_lines
from mtlcluster.config.point_config import GridSource, configure
from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.config.run_name import run_name, trial_run_name
from mtlcluster.config.trial_plan import PlannedTrial, plan_trials
from mtlcluster.config.values import listed
from mtlcluster.config.yaml_file import YamlFile, unquoted
from mtlcluster.defaults import NEWEST, kept
from mtlcluster.errors import UserError, shown
from mtlcluster.methods.catalog import OWN, own_file, sparse_method
from mtlcluster.pydantic_errors import Key, first_mistake
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.trials import Search, read_search


@dataclass(frozen=True)
class PlannedRun:
    """One point of a grid."""

    name: str  # of its folder, if the run is new: the varied values and the hash
    hash: str
    config: RunConfig
    varied: dict[str, Any]  # by dotted key; `method` in its sparse form
    method: str | None = None  # of a trial: the name of its method


@dataclass
class Grid:
    """A checked grid file, and its runs in the order of the file."""

    path: Path
    file: GridFile
    job: JobFile
    runs: list[PlannedRun]
    repeated: int = 0  # points that repeat the run of another point
    resolved: dict[str, Any] = field(default_factory=dict)  # the content of sweep.yaml
    defaults: int = NEWEST  # the version of the defaults that its runs have
    methods: list[Path] = field(default_factory=list)  # files of the user's own methods
    code: list[Path] = field(default_factory=list)  # other files and folders that the runs need
    search: Search | None = None  # with `tune`: the methods and their trials, whose runs are `runs`
    remarks: list[str] = field(default_factory=list)  # sentences for the user


@dataclass(frozen=True)
class _Plan:
    """The points of a grid, and the run of each."""

    points: list[Point]
    runs: list[PlannedRun]
    search: Search | None = None
    remarks: list[str] = field(default_factory=list)


def read_grid(path: Path, max_runs: int = 10_000, runs_folder: Path | None = None) -> Grid:
    """Reads and expands a grid.

    Args:
        path: The grid file.
        max_runs: A grid with more runs is refused.
        runs_folder: The folder that may hold the sweep's folder. A sweep keeps its defaults and the trials of earlier
            submissions.

    Raises:
        UserError: Something is wrong with the grid. The message names file and line.
    """
    source = YamlFile(path)
    file = _checked(source)
    defaults = NEWEST if runs_folder is None else _defaults_of(Sweep(runs_folder / file.name))
    base = _read_base(source, file)
    job = _find_job(source, file, base)
    try:
        code = asked_code(job.root, file.code)
    except UserError as error:
        source.refuse(("code",), str(error))
    made_from = GridSource(source, file, base, job, defaults)
    plan = _plan_search(made_from, runs_folder, max_runs) if file.tune else _plan_points(made_from, max_runs)
    points, planned = plan.points, plan.runs
    _refuse_nodes_at_once(source, file, planned)
    methods = _own_methods(source, planned)
    _refuse_alike(source, job, points, planned)
    runs = _distinct(source, planned)
    if not runs:
        source.refuse(("grid",), "the grid has no points")
    resolved = {**file.model_dump(exclude_defaults=True), "job": job.reference, "defaults": defaults}
    if base:
        resolved["base"] = base.data
    repeated = len(planned) - len(runs)
    remarks = [*_about_defaults(file.name, defaults), *plan.remarks]
    return Grid(path, file, job, runs, repeated, resolved, defaults, methods, code, plan.search, remarks)


def _about_defaults(name: str, version: int) -> list[str]:
    """A sentence if the sweep has older defaults."""
    if version == NEWEST:
        return []
    older = f"sweep {name} was submitted under older defaults and keeps them: {kept(version)}"
    return [f"{older}; a grid with another name gets the new ones"]


def _defaults_of(sweep: Sweep) -> int:
    """The version of the defaults that a sweep has; the newest if it was never submitted."""
    if not sweep.grid.exists():
        return NEWEST
    try:
        file = YamlFile(sweep.grid)
    except UserError:
        return 1  # `submit` says what is wrong with the file
    version = file.data.get("defaults", 1)
    if version not in range(1, NEWEST + 1):
        newest = f"{NEWEST} is the newest that this mtlcluster knows"
        file.refuse(("defaults",), f"defaults should be a version from 1 to {NEWEST}, found {shown(version)}; {newest}")
    return int(version)


def _checked(source: YamlFile) -> GridFile:
    if "grid" not in source.data and "name" not in source.data and "job" in source.data:
        words = "this is the configuration of one run, not a grid; train it with `mtlcluster train`"
        raise UserError(f"{source.path}: {words}")
    try:
        return GridFile.model_validate(source.data)
    except pydantic.ValidationError as error:
        source.refuse(*first_mistake(error, GridFile))


def _read_base(source: YamlFile, file: GridFile) -> YamlFile | None:
    if file.base is None:
        return None
    path = source.path.parent / file.base
    if not path.is_file():
        source.refuse(("base",), f"base: there is no file {path}")
    return YamlFile(path)


def _find_job(source: YamlFile, file: GridFile, base: YamlFile | None) -> JobFile:
    name = file.job or (base.data.get("job") if base else None) or file.set.get("job")
    if not isinstance(name, str):
        raise UserError(f"{source.path}:1: missing key 'job': which file in jobs/ describes the experiment")
    try:
        return find_job(name, source.path.parent)
    except UserError as error:
        source.refuse(("job",), str(error))


def _refuse_nodes_at_once(source: YamlFile, file: GridFile, runs: list[PlannedRun]) -> None:
    nodes = max((run.config.resources.nodes for run in runs), default=1)
    if file.at_once > 1 and nodes > 1:
        source.refuse(
            ("at_once",),
            f"at_once ({file.at_once}) and resources.nodes ({nodes}): a run on several nodes has them to itself; "
            "runs_per_job without at_once trains one after another",
        )


def _own_methods(source: YamlFile, runs: list[PlannedRun]) -> list[Path]:
    """The files of the user's own methods. Two methods must differ in file name and class: identities and figures leave
    folders out.
    """
    found: dict[str, Path] = {}  # by file name and by class
    for name in (chosen["name"] for run in runs for chosen in run.config.method.values() if OWN in chosen["name"]):
        file = own_file(name)
        for called in (file.name, name.rpartition(":")[2]):
            if (other := found.setdefault(called, file)) != file:
                message = f"two methods of your own are called {called}: in {other} and in {file}; rename one"
                source.refuse(("grid",), message)
    return sorted(set(found.values()))


def _refuse_alike(source: YamlFile, job: JobFile, points: list[Point], runs: list[PlannedRun]) -> None:
    """Refuses values of different runs that differ in their type alone, such as 8 and '8': one is a mistake, and the
    runs would have the same name.
    """
    seen: dict[Any, PlannedRun] = {}
    for point, run in zip(points, runs, strict=True):
        converted = {key: job.converted(key, value) for key, value in run.varied.items()}
        other = seen.setdefault(_without_type(converted), run)
        for key, _, where in point if run.hash != other.hash else []:
            value, before = run.varied.get(key), other.varied.get(key)
            if repr(value) != repr(before) and _types(value) != _types(before):
                source.refuse(
                    where, f"{key}: {shown(before)} and {shown(value)} read alike; write both in the same way"
                )


def _without_type(value: Any) -> Any:
    """A hashable stand-in for `value`. It is equal for all values that read alike."""
    if isinstance(value, dict):
        return frozenset((key, _without_type(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return tuple(map(_without_type, value))
    with suppress(ValueError):
        value = unquoted(value) if isinstance(value, str) else value
    return ("truth", value) if isinstance(value, bool) else value  # else True would equal 1


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(inner) for key, inner in value.items()}
    return [_types(inner) for inner in value] if isinstance(value, list) else type(value)


def _distinct(source: YamlFile, planned: list[PlannedRun]) -> list[PlannedRun]:
    """The runs, each once. Refuses two points that differ and are the same run nevertheless."""
    runs: dict[str, PlannedRun] = {}
    for run in planned:
        same = runs.setdefault(run.hash, run)
        if same.varied != run.varied and same.method == run.method:  # two methods may share a run
            source.refuse(
                ("grid",),
                f"two points are the same run: {shown(same.varied)} and {shown(run.varied)} differ in nothing that "
                "decides the result (of a path in data only the last part counts)",
            )
    return list(runs.values())


def _plan_points(source: GridSource, max_runs: int) -> _Plan:
    """The runs of a grid without `tune`: one for each point."""
    if source.file.confirm:
        source.grid.refuse(("confirm",), "confirm needs `tune`: there is no choice to confirm; add tune: {trials: 12}")
    points = expand(source.grid, source.file, source.tasks, max_runs)
    runs = []
    for point in points:
        config = configure(source, point)
        varied = {key: value for key, value, _ in point}
        if "method" in varied:
            varied["method"] = sparse_method(config.method)
        run_id = run_hash(config)
        runs.append(PlannedRun(run_name(varied, config, run_id), run_id, config, varied))
    return _Plan(points, runs)


def _plan_search(source: GridSource, runs_folder: Path | None, max_runs: int) -> _Plan:
    """The runs of a grid with `tune`: every trial of every method with every tuning seed."""
    grid, file = source.grid, source.file
    assert file.tune is not None
    tune, seeds = file.tune, file.tune.seed_list
    lines = _method_lines(source)
    if (count := len(lines) * len(seeds) * tune.trials) > max_runs:
        grid.refuse(("tune",), f"up to {count:,} trial runs; the limit is {max_runs:,} (--max-runs changes it)")
    plan = plan_trials(source, tune, lines, read_search(Sweep(runs_folder / file.name).trials) if runs_folder else None)
    before = {id(planned.trial): dict(planned.trial.runs) for planned in plan.trials}
    points, runs = _trial_runs(source, plan.trials, seeds)
    if any(before[id(planned.trial)].items() - planned.trial.runs.items() for planned in plan.trials):
        plan.remarks.append("what all runs have in common has changed: earlier trials are trained again, as it is now")
    best = runs[0].config.best
    if tune.value not in (None, best.value):
        words = f"tune.value is {tune.value}, and best.value is {best.value}; leave out one of them"
        grid.refuse(("tune", "value"), f"the value that chooses the checkpoint also chooses the setting: {words}")
    confirming = file.confirm.seed_list(seeds) if file.confirm else []
    prune = tune.prune.model_dump() if tune.prune else None
    search = Search(tune.draw_seed, best.value, best.direction, seeds, confirming, prune, plan.columns, plan.methods)
    return _Plan(points, runs, search, plan.remarks)


def _method_lines(source: GridSource) -> list[MethodLine]:
    """The methods of a grid with `tune`; without a list `method`, the one of the base or of `set`."""
    methods = source.file.grid.get("method")
    if methods is None:
        return [MethodLine(None, ("grid",))]
    if isinstance(methods, Draw):
        source.grid.refuse(("grid", "method"), "method can't be drawn: every method is tuned; give a list of them")
    places: dict[Key, Any] = {("grid", "method", i): method for i, method in enumerate(listed(methods))}
    if not places:
        source.grid.refuse(("grid", "method"), "grid.method has no values")
    return method_lines(source.grid, places, source.tasks)


def _trial_runs(
    source: GridSource, trials: list[PlannedTrial], seeds: list[int]
) -> tuple[list[Point], list[PlannedRun]]:
    """The points and runs of trials. Notes the runs in the trials."""
    points, runs = [], []
    for planned in trials:
        method, trial = planned.method, planned.trial
        trial.runs = {}
        for seed in seeds:
            point: Point = [*planned.settings, ("seed", seed, ("tune", "seeds"))]
            config = configure(source, point)
            trial.runs[seed] = run_id = run_hash(config)
            varied = {"method": method.method, **trial.values, "seed": seed}
            name = trial_run_name(method.name, trial.trial, seed, run_id)
            runs.append(PlannedRun(name, run_id, config, varied, method.name))
            points.append(point)
    return points, runs
