"""The folders of a sweep's runs: finds which exist and which still need a job, and writes their config.yaml."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.run import Origin, Resources, RunConfig, SweepRunConfig, read_sweep_run_config
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.launch.code.project import OWN_METHODS
from mtlcluster.launch.job_of_run import later_job_in_status
from mtlcluster.launch.packing import Unit
from mtlcluster.methods.catalog import moved_method, without_younger_options
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import flush, new_folder, replace_text
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.status import ENDED, read_status


@dataclass
class Sorted:
    """The runs of a grid, sorted by what must be done with them. The keys are the names of their folders.

    Attributes:
        new: Runs that have no folder yet.
        unsent: Runs that have a folder, but never had a job.
        interrupted: Runs that were trained before, and whose last submission failed.
        left: Runs that have or had a job. Nothing is done with them.
    """

    new: dict[str, PlannedRun] = field(default_factory=dict)
    unsent: dict[str, PlannedRun] = field(default_factory=dict)
    interrupted: dict[str, PlannedRun] = field(default_factory=dict)
    left: dict[str, PlannedRun] = field(default_factory=dict)

    def leave(self, hashes: Collection[str]) -> None:
        """Moves the runs with these hashes to `left`."""
        for group in (self.new, self.unsent, self.interrupted):
            for name in [name for name, run in group.items() if run.hash in hashes]:
                self.left[name] = group.pop(name)


def sort(sweep: Sweep, grid: Grid) -> Sorted:
    """Sorts the runs of a grid by their folders. The hash at the end of a folder's name identifies the run."""
    folders = sweep.by_identity()
    history = submissions.read(sweep.submissions)
    taken = submissions.latest(history).keys()
    waiting = without_job(sweep, history)
    result = Sorted()
    for planned in grid.runs:
        run = folders.get(planned.hash)
        if run is None:
            result.new[planned.name] = planned
        elif run.name not in waiting:
            result.left[run.name] = planned
        elif run.name in taken or run.status.exists():
            result.interrupted[run.name] = planned
        else:
            result.unsent[run.name] = planned
    return result


def units(found: Sorted, code: str, before: dict[str, SweepRunConfig]) -> list[Unit]:
    """The runs that need a job.

    Args:
        found: The runs of a grid.
        code: The hash of the code for the new and the unsent runs.
        before: The configurations of the interrupted runs, by run. These runs keep their code. An interrupted run that
            is missing here gets no job.
    """
    fresh = [Unit(name, run.config.resources, code) for name, run in (found.unsent | found.new).items()]
    return fresh + [
        Unit(name, found.interrupted[name].config.resources, config.origin.code) for name, config in before.items()
    ]


def without_job(sweep: Sweep, history: list[submissions.Submission]) -> set[str]:
    """The names of the runs that need a job: no accepted submission has given them one."""
    last = {run: submission for submission in history for job in submission.jobs for run in job}
    return {run.name for run in sweep.runs() if _needs_job(sweep, run, last.get(run.name))}


def _needs_job(sweep: Sweep, run: Run, last: submissions.Submission | None) -> bool:
    if last is not None and last.accepted:
        return False
    try:
        status = read_status(run.status)
    except (OSError, ValueError):  # status.json can't be read: a new job finds out how far the run is
        return True
    if status is None:
        return True
    if later_job_in_status(status, run, sweep, last.id if last else ""):
        return False
    # A `submit` that was killed may have started a job, and that job may have trained the run.
    return last is None or status.submission != last.id or status.state not in ENDED


def write_runs(sweep: Sweep, planned: dict[str, PlannedRun], code: str, cluster: str) -> None:
    """Makes the folders of new runs.

    All are written in a hidden folder, flushed to disk together, and then renamed. So no half-written folder appears.
    """
    if not planned:
        return
    pieces: dict[str, str] = {}
    with new_folder(sweep.folder) as hidden:
        for name, run in planned.items():
            (hidden / name).mkdir()
            (hidden / name / "config.yaml").write_text(_config_text(sweep, run, code, cluster, pieces), "utf-8")
        flush(hidden / name / "config.yaml" for name in planned)
        for name in planned:
            (hidden / name).rename(sweep.folder / name)


def rewrite_runs(sweep: Sweep, planned: dict[str, PlannedRun], code: str, cluster: str) -> None:
    """Writes config.yaml again for runs that never had a job: their resources or code may have changed."""
    for name, run in planned.items():
        replace_text(sweep.run(name).config, _config_text(sweep, run, code, cluster, {}))


def _config_text(sweep: Sweep, run: PlannedRun, code: str, cluster: str, pieces: dict[str, str]) -> str:
    """The text of config.yaml.

    Args:
        sweep: The sweep.
        run: The run.
        code: The hash of its code.
        cluster: The name of its cluster.
        pieces: A cache: the YAML text of each key with its value. Most runs of a grid have most values in common.
    """
    origin = Origin(sweep=sweep.name, code=code, cluster=cluster, varied=run.varied)
    values: dict[str, Any] = {**_values(run.config), "origin": origin.model_dump()}
    text = []
    for key, value in values.items():
        piece = f"{key}: {value!r}"
        if piece not in pieces:
            pieces[piece] = dump({key: value})
        text.append(pieces[piece])
    return "".join(text)


def read_configs(sweep: Sweep, names: list[str]) -> tuple[dict[str, SweepRunConfig], dict[str, str]]:
    """Reads the configurations of runs.

    Returns:
        The configurations, by run; and for each run whose configuration can't be read, the reason.
    """
    found, unreadable = {}, {}
    for name in names:
        try:
            found[name] = read_sweep_run_config(sweep.run(name).config)
        except UserError as error:
            unreadable[name] = f"{error}; to train the run from scratch, remove its folder and submit the grid again"
    return found, unreadable


def _values(config: RunConfig) -> dict[str, Any]:
    """The values for config.yaml. The paths of the user's own methods lead into the code snapshot.

    Options of methods that are younger than the first version are left out at their first default: an older mtlcluster,
    whose code the run may have, does not know them.
    """
    return {**config.model_dump(), "method": without_younger_options(moved_method(config.method, OWN_METHODS))}


def write_config(run: Run, config: SweepRunConfig) -> None:
    """Writes config.yaml of a run whose folder is there."""
    replace_text(run.config, dump(_values(config)))


def update_config(
    run: Run, config: SweepRunConfig, code: str = "", resources: Resources | None = None
) -> SweepRunConfig:
    """Gives other code or resources to a run that has ended. Writes config.yaml only if it changes.

    Args:
        run: The run.
        config: Its configuration, as it is in config.yaml.
        code: The hash of other code. "": the run keeps its code.
        resources: Other resources. None: the run keeps its resources.

    Returns:
        The new configuration.
    """
    origin = config.origin.model_copy(update={"code": code or config.origin.code})
    updated = config.model_copy(update={"origin": origin, "resources": resources or config.resources})
    if updated != config:
        write_config(run, updated)
    return updated
