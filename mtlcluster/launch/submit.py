"""`mtlcluster submit` and what `retry` needs of it: from a checked grid to runs that have their jobs.

Everything happens under the sweep's lock, and every step leaves the folder such that the next `submit` completes what
a killed one began: code and runs appear whole, and submissions.jsonl says before each sbatch call what was meant.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mtlcluster
from mtlcluster.config import submitted_here
from mtlcluster.config.cluster import LOCAL, SLURM, Cluster, find_cluster
from mtlcluster.config.cluster_files import FILE_NAME
from mtlcluster.config.grid import Grid
from mtlcluster.config.run import Resources, SweepRunConfig
from mtlcluster.errors import SchedulerError, UserError
from mtlcluster.launch import run_folders
from mtlcluster.launch.code import changes, snapshot
from mtlcluster.launch.code.project import shown
from mtlcluster.launch.executors import local, slurm
from mtlcluster.launch.limits import refuse_ruled_out
from mtlcluster.launch.packing import Array, Unit, pack
from mtlcluster.launch.run_status import TO_RETRY, observe
from mtlcluster.processes.local_job_id import local_job_id
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import is_locked, locked, make_folder, remove
from mtlcluster.sweep.folder import Sweep, hash_of
from mtlcluster.worker import slots

Notify = Callable[[str], object]
AWAY = "cluster '{}': Slurm does not answer here (is sbatch installed, and its controller up?)"
LISTED = 100  # files of the code that a dry run names
INTERRUPTED = "submit was killed before it was completed"


@dataclass
class Submitted:
    """What a submission did. Names are those of the runs' folders."""

    sweep: Sweep
    cluster: str
    new: list[str] = field(default_factory=list)  # folders made now
    there: list[str] = field(default_factory=list)  # runs of the grid that were there already
    submitted: list[str] = field(default_factory=list)  # given a job now: the new ones, and unsent ones
    left: dict[str, list[str]] = field(default_factory=dict)  # of those that were there and left alone: by state
    job_ids: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)  # runs that were left out: why, naming the file


def choose_cluster(name: str | None, grid: Grid) -> Cluster:
    """The cluster called `name`, else the grid's own, else Slurm where it is installed, else this machine.

    Raises UserError where Slurm does not answer: this is a login node then, which is not to train in its place.
    """
    if name := name or grid.file.cluster:
        return _find_cluster(name, grid.path.parent, f"{AWAY.format(name)}; --cluster local trains on this machine")
    silent = "Slurm is installed here but does not answer; try again, or train here: --cluster local"
    return _find_cluster(SLURM if slurm.installed() else LOCAL, grid.path.parent, silent)


def _find_cluster(name: str, grid_folder: Path | None, silent: str = "") -> Cluster:
    """silent: what to say where Slurm, which is asked once, does not answer."""
    cluster = find_cluster(name, grid_folder)
    if cluster.is_local:
        slots.refuse_unsafe_folder()
    if not cluster.is_local and not cluster.is_remote and not slurm.answers():
        raise UserError(silent or f"{AWAY.format(name)}; try again later")
    return cluster


def submit(grid: Grid, runs_folder: Path, cluster: str | None, notify: Notify, others_asked: bool = False) -> Submitted:
    """Writes what is new of the grid into the sweep's folder and gives every run a job that has none.

    others_asked: the grid's runs are known to live on no remote cluster. Raises UserError for a folder that can't be
    written or is of another job, SchedulerError when Slurm refuses.
    """
    chosen = choose_cluster(cluster, grid)
    refuse_too_much(chosen, grid)
    sweep = sweep_of(grid, runs_folder)
    if not chosen.is_local:
        slurm.refuse_folder(sweep)
    with disk_errors(sweep), locked(sweep.lock, notify):
        run_folders.refuse_other_job(sweep, grid.job.reference)
        if sweep.clusters.is_dir() and not others_asked:
            raise UserError(f"another submit of {sweep.name} has begun meanwhile; run the command again")
        submitted_here.remember(sweep.folder, grid.path.parent)
        _close_interrupted(sweep)
        found = run_folders.sort(sweep, grid)
        code = snapshot.take(grid.job, grid.methods, grid.code)
        result = Submitted(sweep, chosen.name, new=list(found.new))
        changes.mend(sweep, {run_folders.read_config(sweep.run(name)).origin.code for name in found.interrupted})
        if found.new or found.unsent:
            tell(notify, [*code.remarks, *snapshot.keep(code, sweep.code)])
        run_folders.write_grid(sweep, grid)
        run_folders.rewrite_runs(sweep, found.unsent, code.hash, chosen.name)
        for name in found.unsent:  # a `cancel` while it had no job
            remove(sweep.run(name).cancel)
        run_folders.write_runs(sweep, found.new, code.hash, chosen.name)
        _look_at_left(found, result)
        units = _units(found, sweep, code.hash, result.unreadable)
        for unit in units:
            if unit.name in found.interrupted:
                run_folders.take_over_resources(sweep.run(unit.name), unit.resources)
        _hand_over(sweep, chosen, units, grid.file.runs_per_job, grid.file.at_once, result)
    return result


def submit_arrived(sweep: Sweep, names: list[str], cluster: Cluster, runs_per_job: int, at_once: int) -> Submitted:
    """Gives every run of `names` a job that has none: their folders and code came from another machine. To be called
    with the sweep locked. Raises SchedulerError when Slurm refuses.
    """
    _close_interrupted(sweep)
    waiting = set(run_folders.without_job(sweep, submissions.read(sweep.submissions)))
    result = Submitted(sweep, cluster.name)
    configs, result.unreadable = run_folders.read_configs(sweep, [name for name in names if name in waiting])
    units = [Unit(name, config.resources, config.origin.code) for name, config in configs.items()]
    _hand_over(sweep, cluster, units, runs_per_job, at_once, result)
    return result


def preview(grid: Grid, runs_folder: Path, cluster: str | None, elsewhere: Collection[str] = ()) -> str:
    """What `submit` would do: the runs, and the very script that sbatch would be given. Writes nothing anywhere.

    elsewhere: the hashes of runs that remote clusters have.
    """
    chosen = choose_cluster(cluster, grid)
    sweep = sweep_of(grid, runs_folder)
    run_folders.refuse_other_job(sweep, grid.job.reference)
    refuse_too_much(chosen, grid)
    if not chosen.is_local:
        slurm.refuse_folder(sweep)
    found = run_folders.sort(sweep, grid)
    code = snapshot.take(grid.job, grid.methods, grid.code)
    unreadable: dict[str, str] = {}
    units = _units(found, sweep, code.hash, unreadable)
    units = [unit for unit in units if hash_of(unit.name) not in elsewhere]
    there = len(grid.runs) - sum(run.hash not in elsewhere for run in found.new.values())
    ending = ":" if units else ""
    lines = [f"{len(units)} of {len(grid.runs)} runs to submit, {there} are already there; {sweep.folder}{ending}"]
    lines += [f"  {unit.name}" for unit in units]
    lines += [f"left out: {name}: {why}" for name, why in unreadable.items()]
    if units:
        lines += _shown(code)
    if chosen.is_remote:  # where it would be over there; how long an array may be, only that cluster knows
        sweep = Sweep(Path(chosen.root, "runs", sweep.name))
        arrays = pack(units, grid.file.runs_per_job, grid.file.at_once, len(units))
    else:
        arrays = _arrays(chosen, units, grid.file.runs_per_job, grid.file.at_once)
    lines += _from_environment(chosen, units)
    for number, array in enumerate(arrays, submissions.next_number(sweep.submissions)):
        if chosen.is_local:
            lines += ["", "on this machine: one worker, which starts as many at once as there are cores and GPUs"]
            lines += sorted({_ranks(unit.resources).lstrip("; ") for unit in units} - {""})
            continue
        jobs = f"{len(array.jobs)} job{'s' * (len(array.jobs) != 1)}{_ranks(array.resources)}"
        lines += ["", f"--- sbatch script {number}, for {jobs} ---"]
        lines.append(slurm.script(sweep, _submission_id(number), array, chosen))
    return "\n".join(lines)


def _from_environment(cluster: Cluster, units: list[Unit]) -> list[str]:
    """Lines about what sbatch finds in the user's environment: what counts for the jobs of `units`, and what not."""
    if cluster.is_local or not units:
        return []
    of_each = [slurm.defaults_for(resources, cluster) for resources in {unit.resources for unit in units}]
    found = {name: value for defaults in of_each for name, value in defaults.items()}
    options = {name for name in os.environ if name.startswith("SBATCH_") or name == "SLURM_CLUSTERS"}
    unused = sorted(options - {slurm.DEFAULTS[name] for name in found})
    lines = [f"from the environment: {slurm.in_words(found)}"] if found else []
    return lines + ([f"not taken from the environment: {', '.join(unused)}"] if unused else [])


def _ranks(wanted: Resources) -> str:
    """Where a run takes several processes: how many."""
    if wanted.ranks == 1:
        return ""
    nodes = f", on {wanted.nodes} nodes" if wanted.nodes > 1 else ""
    return f"; a run is trained by {wanted.ranks} processes (ranks){nodes}"


def _shown(code: snapshot.Snapshot) -> list[str]:
    """What would be taken of the project, and what the user should know of it."""
    library = f"{mtlcluster.__name__}/"
    names = sorted(name for name in code.files if not name.startswith(library))
    more = [f"  … and {len(names) - LISTED:,} more"] if len(names) > LISTED else []
    head = f"their code, beside mtlcluster itself: {len(names):,} files"
    files = ["", head, *(f"  {shown(name)}" for name in names[:LISTED]), *more]
    return [*files, "", *code.remarks] if code.remarks else files


def tell(notify: Notify, remarks: Iterable[str]) -> None:
    for remark in remarks:
        notify(remark)


def resubmit(
    sweep: Sweep,
    names: list[str],
    restart: bool | str,
    notify: Notify,
    here: Cluster | None = None,
    fresh: str | None = None,
) -> Submitted:
    """Gives the runs a job again: they go on from their checkpoints with the code they have, those that have saved none
    with the code as it is now. With `restart` all begin anew with the code as it is now, or with that of this hash. All
    with the resources that the grid asks for now.

    here: the cluster that this machine is, where another machine has sent the runs; else their own configurations say.
    fresh: the hash of the code as it is now, where that other machine may have the project: "" if it has not.

    Raises UserError for a run that a job has, be it since the caller looked.
    """
    sweep = Sweep(sweep.folder.absolute())
    with disk_errors(sweep), locked(sweep.lock, notify):
        grid = run_folders.read_grid(sweep).data
        grid_folder = _cluster_folder(sweep)
        configs, unreadable = run_folders.read_configs(sweep, names)
        if not configs and unreadable:
            raise UserError("\n".join(unreadable.values()))
        names = list(configs)
        if here is None:  # else the other machine has looked
            _refuse_too_much_again(sweep, configs, grid, grid_folder)
        _close_interrupted(sweep)
        _refuse_taken(sweep, names)
        result = Submitted(sweep, "", there=list(names), unreadable=unreadable)
        saved = {name for name in names if not restart and sweep.run(name).has_saved}
        if restart:
            _start_over(sweep, names, restart, notify)
        else:
            _take_over_code(sweep, [name for name in names if name not in saved], fresh, result)
        configs = {name: run_folders.read_config(sweep.run(name)) for name in names}
        changes.mend(sweep, {config.origin.code for config in configs.values()})
        if here is None:
            result.notes += changes.remark(sweep, {configs[name].origin.code for name in saved}, 0, len(saved))
        by_cluster: dict[str, list[Unit]] = {}
        for name, config in configs.items():
            resources = run_folders.present_resources(config, grid)
            run_folders.take_over_resources(sweep.run(name), resources)
            cluster = here.name if here else config.origin.cluster
            by_cluster.setdefault(cluster, []).append(Unit(name, resources, config.origin.code))
            remove(sweep.run(name).cancel)
        for cluster, units in by_cluster.items():
            chosen = here or _find_cluster(cluster, grid_folder)
            _hand_over(sweep, chosen, units, grid.get("runs_per_job", 1), grid.get("at_once", 1), result)
        result.cluster = ", ".join(by_cluster)
    return result


def _cluster_folder(sweep: Sweep) -> Path | None:
    """Where the cluster file of a sweep lies that was submitted from here, be it by the user's other machine, which
    has sent its cluster's options along.
    """
    if (sweep.folder / FILE_NAME).exists() and submitted_here.is_mine(sweep.folder):
        return sweep.folder
    grid_folder = run_folders.source(sweep)[1]
    return grid_folder if submitted_here.has_grids(grid_folder) else None


def _start_over(sweep: Sweep, names: list[str], code: Literal[True] | str, notify: Notify) -> None:
    """Removes what the runs have computed, once their code is there: as it is now, or with this hash."""
    if isinstance(code, bool):
        code, remarks = changes.Present(sweep).keep(names)
        tell(notify, remarks)
    changes.mend(sweep, [code])
    for name in names:
        run_folders.start_over(sweep.run(name), code)


def _take_over_code(sweep: Sweep, names: list[str], fresh: str | None, result: Submitted) -> None:
    """Gives runs that have saved nothing yet the code as it is now: what has stopped them may have been mended."""
    remarks: list[str] = []
    if fresh is None and names and changes.Present(sweep).is_here:
        fresh, remarks = changes.Present(sweep).keep(names)
    if fresh and (taken := sum(run_folders.take_over_code(sweep.run(name), fresh) for name in names)):
        result.notes += [f"{taken:,} of them with the code as it is now, because nothing had been saved", *remarks]


def _refuse_taken(sweep: Sweep, names: list[str]) -> None:
    """A run that a job has, or whose training process is still alive, must not be given to another one."""
    taken = [run.run for run in observe([sweep], names) if not run.ended]
    taken += [name for name in names if is_locked(sweep.run(name).lock)]
    if taken:
        raise UserError(f"{', '.join(dict.fromkeys(taken))}: still at work; nothing was submitted")


def sweep_of(grid: Grid, runs_folder: Path) -> Sweep:
    """The sweep of `grid` there. A relative folder counts from the working folder as the kernel names it, without
    links, as for sbatch: jobs in the queue are found by this path, however one came here. An absolute one stays as it
    is, for nodes that know the link alone.
    """
    return Sweep(runs_folder.absolute() / grid.file.name)


@contextmanager
def disk_errors(sweep: Sweep) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{sweep.folder}: the disk is full; make room and submit again") from None
        where = error.filename or sweep.folder
        raise UserError(f"{where}: {error.strerror or error}; the sweep's folder can't be written") from None


def refuse_too_much(cluster: Cluster, grid: Grid) -> None:
    """What this machine or this cluster can't ever give."""
    nodes = max(run.config.resources.nodes for run in grid.runs)
    if cluster.is_local and nodes > 1:
        raise UserError(f"{grid.path}: resources.nodes is {nodes}, this machine is one; choose another --cluster")
    wanted = max(run.config.resources.gpu_count for run in grid.runs)
    if cluster.is_local and wanted and wanted > (here := len(slots.visible_gpus())):
        raise UserError(f"{grid.path}: resources.gpus is {wanted}, this machine has {here}; choose another --cluster")
    of_each = [run.config.resources for run in grid.runs]
    refuse_ruled_out(cluster, of_each, grid.file.runs_per_job, grid.file.at_once, grid.path)


def _refuse_too_much_again(
    sweep: Sweep, configs: dict[str, SweepRunConfig], grid: dict[str, Any], grid_folder: Path | None
) -> None:
    """The same for a `retry`, of every cluster that its runs were submitted to."""
    wanted: dict[str, list[Resources]] = {}
    for config in configs.values():
        wanted.setdefault(config.origin.cluster, []).append(run_folders.present_resources(config, grid))
    for cluster, of_each in wanted.items():
        chosen = _find_cluster(cluster, grid_folder)
        if not chosen.is_local:
            slurm.refuse_folder(sweep)
        refuse_ruled_out(chosen, of_each, grid.get("runs_per_job", 1), grid.get("at_once", 1), sweep.grid)


def _close_interrupted(sweep: Sweep) -> None:
    """Ends the submissions of a `submit` that was killed: what it has left in Slurm's queue is cancelled. One whose
    runs have begun was accepted: only the line that said so was lost.

    A local worker needs no cancelling: it finds that its submission was never accepted, and goes.
    """
    for submission in submissions.read(sweep.submissions):
        if submission.told_by_runs:
            submissions.append(sweep.submissions, "end", submission.id, jobs=submission.job_ids)
        elif not submission.ended:
            cancelled = []
            if submission.cluster != LOCAL:
                cancelled = slurm.cancel_orphans(sweep, submission.id)
            note = f"; cancelled {', '.join(cancelled)}" if cancelled else ""
            submissions.append(sweep.submissions, "end", submission.id, error=INTERRUPTED + note)


def _look_at_left(found: run_folders.Sorted, result: Submitted) -> None:
    """Notes the states of the runs that are left alone; those that ended badly take over the grid's resources."""
    result.there = [*found.left, *found.unsent, *found.interrupted]
    if not found.left:
        return
    changed = 0
    for run in observe([result.sweep], found.left):
        result.left.setdefault(run.state, []).append(run.run)
        if run.state in TO_RETRY:
            resources = found.left[run.run].config.resources
            try:
                changed += run_folders.take_over_resources(result.sweep.run(run.run), resources)
            except UserError as error:
                result.unreadable[run.run] = str(error)
    if changed:
        result.notes.append(f"{changed} of them will be retried with the grid's new resources")


def _units(found: run_folders.Sorted, sweep: Sweep, code: str, unreadable: dict[str, str]) -> list[Unit]:
    """The runs that need a job. One that was trained before keeps its code; where that can't be found out, it is left
    out, and noted in `unreadable`.
    """
    configs, damaged = run_folders.read_configs(sweep, list(found.interrupted))
    unreadable |= damaged
    before = [Unit(name, found.interrupted[name].config.resources, c.origin.code) for name, c in configs.items()]
    return [Unit(name, run.config.resources, code) for name, run in (found.unsent | found.new).items()] + before


def _arrays(cluster: Cluster, units: list[Unit], runs_per_job: int, at_once: int) -> list[Array]:
    if cluster.is_local:
        by_code: dict[str, list[Unit]] = {}
        for unit in units:
            by_code.setdefault(unit.code, []).append(unit)
        return [Array(code, same[0].resources, len(same), [[u.name for u in same]]) for code, same in by_code.items()]
    return pack(units, runs_per_job, at_once, slurm.largest_array() if len(units) > 1 else 1)


def _submission_id(number: int) -> str:
    return f"{number:04d}"


def _hand_over(
    sweep: Sweep, cluster: Cluster, units: list[Unit], runs_per_job: int, at_once: int, result: Submitted
) -> None:
    result.notes += _from_environment(cluster, units)
    for array in _arrays(cluster, units, runs_per_job, at_once):
        submission = _submission_id(submissions.next_number(sweep.submissions))
        for folder in (sweep.submission_folder(submission).parent, sweep.submission_folder(submission)):
            make_folder(folder)
        details: dict[str, Any] = {"cluster": cluster.name, "code": array.code, "jobs": array.jobs}
        submissions.append(sweep.submissions, "begin", submission, **details)
        if cluster.is_local:
            result.job_ids += _submit_local(sweep, submission, array)
        else:
            result.job_ids += _submit_slurm(sweep, submission, array, cluster, result)
        result.submitted += [run for job in array.jobs for run in job]


def _submit_local(sweep: Sweep, submission: str, array: Array) -> list[str]:
    worker = local.start(sweep, submission, array.code)
    job = local_job_id(worker.pid)
    submissions.append(sweep.submissions, "end", submission, jobs=[job])
    local.release(worker)
    return [job]


def _submit_slurm(sweep: Sweep, submission: str, array: Array, cluster: Cluster, result: Submitted) -> list[str]:
    already = len(result.submitted)
    try:
        jobs = slurm.submit(sweep, submission, array, cluster, result.notes.append)
    except slurm.Unsettled:
        raise
    except SchedulerError as error:
        submissions.append(sweep.submissions, "end", submission, error=str(error))
        done = f" ({already} runs were submitted before)" if already else ""
        raise SchedulerError(f"{error}{done}") from None
    submissions.append(sweep.submissions, "end", submission, jobs=jobs)
    return jobs
