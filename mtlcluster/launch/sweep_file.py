"""sweep.yaml: the grid as it was last submitted, and where it and its job come from."""

import os
from typing import Any

import pydantic
from pydantic import Field

from mtlcluster.config.grid import Grid
from mtlcluster.config.run import Resources, SweepRunConfig
from mtlcluster.config.yaml_file import YamlFile, dump
from mtlcluster.errors import UserError
from mtlcluster.launch.packing import Packing
from mtlcluster.pydantic_errors import first_mistake
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.trials import Search, read_search, write_search


class Source(pydantic.BaseModel, strict=True):
    """The files that a grid and its job come from.

    Attributes:
        grid: The grid file.
        root: The folder that the path of the job is relative to.
        methods: The files of the user's own methods, by file name, of all submissions.
    """

    grid: str
    root: str
    methods: dict[str, str] = {}


class SweepFile(pydantic.BaseModel, strict=True):
    """The keys of sweep.yaml that `retry` needs. A newer version of mtlcluster may have written more."""

    job: str
    code: list[str] = []
    source: Source | None = None
    resources: Resources = Resources()
    runs_per_job: int = Field(default=1, gt=0)
    at_once: int = Field(default=1, gt=0)

    @property
    def packing(self) -> Packing:
        return Packing(self.runs_per_job, self.at_once)

    def resources_of(self, config: SweepRunConfig) -> Resources:
        """The resources that the grid asks for this run now. What the grid varies stays as the run has it."""
        varied = {key.split(".")[1] for key in config.origin.varied if key.startswith("resources.")}
        wanted = self.resources.model_dump(exclude_unset=True)
        kept = config.resources.model_dump()
        return Resources(**kept | {key: value for key, value in wanted.items() if key not in varied})


def read_sweep_file(sweep: Sweep) -> SweepFile:
    """Reads sweep.yaml, and checks the keys that `retry` needs. Raises UserError."""
    file = YamlFile(sweep.grid)
    try:
        return SweepFile(**file.data)
    except (pydantic.ValidationError, TypeError) as error:  # TypeError: a key that is not text
        place, words = first_mistake(error, SweepFile) if isinstance(error, pydantic.ValidationError) else ((), error)
        file.refuse(place, f"{words}; to mend it, submit the grid again")


def source_of(sweep: Sweep, file: SweepFile) -> Source:
    """The files that the grid and its job come from. Raises UserError if sweep.yaml does not say."""
    if file.source is None:
        YamlFile(sweep.grid).refuse(("source",), "missing key 'source': where the grid and its job come from")
    return file.source


def refuse_other_job(sweep: Sweep, reference: str) -> None:
    """Raises UserError if the sweep belongs to another job than the one with this reference."""
    if not sweep.grid.exists():
        return
    again = "; if it is damaged, remove it, and submit the grid again"
    try:
        job = YamlFile(sweep.grid).data.get("job")
    except UserError as error:
        raise UserError(f"{error}{again}") from None
    if not isinstance(job, str):
        raise UserError(f"{sweep.grid}: does not say which job the sweep belongs to{again}")
    if job != reference:
        raise UserError(f"{sweep.folder} is a sweep of job {job}, this grid is of {reference}; give it another name")


def write_sweep_file(sweep: Sweep, grid: Grid) -> None:
    """Writes trials.json and sweep.yaml. Sweep.yaml keeps the places of the user's own methods of earlier submissions.

    Raises:
        UserError: Another submit has added trials in the meantime.
    """
    if grid.search:
        _write_search(sweep, grid.search)
    source: dict[str, Any] = {"grid": os.path.abspath(grid.path), "root": os.path.abspath(grid.job.root)}  # noqa: PTH100
    earlier = _own_methods(YamlFile(sweep.grid).data) if sweep.grid.exists() else {}
    if methods := {**earlier, **{path.name: str(path) for path in grid.methods}}:
        source["methods"] = methods
    replace_text(sweep.grid, dump({**grid.resolved, "source": source}))


def _write_search(sweep: Sweep, search: Search) -> None:
    """Writes trials.json. It only adds to it."""
    before = read_search(sweep.trials)
    for method in before.methods.values() if before else ():
        kept = search.methods.get(method.name)
        values = [trial.values for trial in method.trials]
        if kept is None or values != [trial.values for trial in kept.trials[: len(values)]]:
            raise UserError(f"another submit of {sweep.name} has finished in the meantime; run the command again")
    write_search(sweep.trials, search)


def _own_methods(grid: dict[str, Any]) -> dict[str, str]:
    """The `methods` of the source in a sweep.yaml that may be damaged elsewhere."""
    source = grid.get("source")
    methods = source.get("methods") if isinstance(source, dict) else None
    return dict(methods) if isinstance(methods, dict) else {}
