"""The runs of a sweep as they stand in its folder: which are there, which still need a job, and writing new ones."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.run import Origin, Resources, RunConfig, SweepRunConfig, read_sweep_run_config
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.launch.code.project import OWN_METHODS
from mtlcluster.launch.job_of_run import told_by
from mtlcluster.launch.packing import Unit
from mtlcluster.methods.catalog import moved_method
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import flush, new_folder, replace_text
from mtlcluster.sweep.folder import Run, Sweep, hash_of
from mtlcluster.sweep.status import ENDED, read_status


@dataclass
class Sorted:
    """A grid's runs, by what is to be done about them. Keys are folder names."""

    new: dict[str, PlannedRun] = field(default_factory=dict)  # no folder yet
    unsent: dict[str, PlannedRun] = field(default_factory=dict)  # a folder, but no job ever took it
    interrupted: dict[str, PlannedRun] = field(default_factory=dict)  # trained before; its last submission failed
    left: dict[str, PlannedRun] = field(default_factory=dict)  # has or had its job: left alone

    def leave(self, hashes: Collection[str]) -> None:
        """Leaves alone the runs with these hashes, too."""
        for group in (self.new, self.unsent, self.interrupted):
            for name in [name for name, run in group.items() if run.hash in hashes]:
                self.left[name] = group.pop(name)


def sort(sweep: Sweep, grid: Grid) -> Sorted:
    """Compares the grid with the folder. A run's identity is the hash that ends its folder's name."""
    folders = {hash_of(run.name): run for run in sweep.runs()}
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
        found: the runs of a grid.
        code: the hash of the code of those that have not been trained.
        before: the configurations of the interrupted ones, which keep their code. The others of them are left out.
    """
    fresh = [Unit(name, run.config.resources, code) for name, run in (found.unsent | found.new).items()]
    return fresh + [Unit(name, found.interrupted[name].config.resources, c.origin.code) for name, c in before.items()]


def without_job(sweep: Sweep, history: list[submissions.Submission]) -> set[str]:
    """The runs that no accepted submission has given a job."""
    last = {run: submission for submission in history for job in submission.jobs for run in job}
    return {run.name for run in sweep.runs() if _needs_job(sweep, run, last.get(run.name))}


def _needs_job(sweep: Sweep, run: Run, last: submissions.Submission | None) -> bool:
    if last is not None and last.accepted:
        return False
    try:
        status = read_status(run.status)
    except (OSError, ValueError):  # its worker, or its job, begins it anew
        return True
    if status is None:
        return True
    if told_by(status, run, sweep, last.id if last else ""):
        return False
    # The job of a killed `submit` may have trained it nevertheless.
    return last is None or status.submission != last.id or status.state not in ENDED


def write_runs(sweep: Sweep, planned: dict[str, PlannedRun], code: str, cluster: str) -> None:
    """Makes the runs' folders. Each appears whole: written in a hidden folder, flushed together, renamed."""
    if not planned:
        return
    pieces: dict[str, str] = {}
    with new_folder(sweep.folder) as beside:
        for name, run in planned.items():
            (beside / name).mkdir()
            (beside / name / "config.yaml").write_text(_config_text(sweep, run, code, cluster, pieces), "utf-8")
        flush(beside / name / "config.yaml" for name in planned)
        for name in planned:
            (beside / name).rename(sweep.folder / name)


def rewrite_runs(sweep: Sweep, planned: dict[str, PlannedRun], code: str, cluster: str) -> None:
    """Writes config.yaml anew for runs that no job has ever taken: resources or code may have been mended since."""
    for name, run in planned.items():
        replace_text(sweep.run(name).config, _config_text(sweep, run, code, cluster, {}))


def _config_text(sweep: Sweep, run: PlannedRun, code: str, cluster: str, pieces: dict[str, str]) -> str:
    """config.yaml. pieces: the text of key and value that were met before, for most runs of a grid are mostly alike."""
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
    """The configurations of these runs; and why those can't be read that can't."""
    found, unreadable = {}, {}
    for name in names:
        try:
            found[name] = read_sweep_run_config(sweep.run(name).config)
        except UserError as error:
            unreadable[name] = f"{error}; remove the run's folder, and submit the grid again, for it to begin anew"
    return found, unreadable


def _values(config: RunConfig) -> dict[str, Any]:
    """As config.yaml has them: methods of one's own are those of the code snapshot."""
    return {**config.model_dump(), "method": moved_method(config.method, OWN_METHODS)}


def update_config(
    run: Run, config: SweepRunConfig, code: str = "", resources: Resources | None = None
) -> SweepRunConfig:
    """Gives a run that has ended other code or resources, and writes config.yaml if that changes it.

    Args:
        run: the run.
        config: its configuration, as it is in config.yaml.
        code: the hash of other code; "" to keep its own.
        resources: other resources; None to keep its own.

    Returns:
        The configuration as it is now.
    """
    origin = config.origin.model_copy(update={"code": code or config.origin.code})
    updated = config.model_copy(update={"origin": origin, "resources": resources or config.resources})
    if updated != config:
        replace_text(run.config, dump(_values(updated)))
    return updated
