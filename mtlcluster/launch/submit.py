"""`mtlcluster submit`: from a checked grid to runs that have their jobs.

Every step leaves the sweep's folder such that the next `submit` completes what a killed one began: code and runs appear
whole, and submissions.jsonl says before each submission what was meant.
"""

from pathlib import Path

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid
from mtlcluster.config.run import read_sweep_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch import confirm, run_folders, sweep_file
from mtlcluster.launch.choose_cluster import choose_cluster, refuse_impossible
from mtlcluster.launch.code import changes, snapshot
from mtlcluster.launch.hand_over import Submitted, close_interrupted, hand_over, sweep_of, writing
from mtlcluster.launch.packing import Packing, Unit, packing_of
from mtlcluster.launch.run_status import TO_RETRY, observe
from mtlcluster.progress import Say
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import remove
from mtlcluster.sweep.folder import Sweep


def submit(grid: Grid, runs_folder: Path, cluster: str | None, say: Say) -> Submitted:
    """Submits a grid to one cluster that is not remote.

    Args:
        grid: The grid.
        runs_folder: The folder that holds, or will hold, the sweep's folder.
        cluster: The cluster's name; None for the usual one, see choose_cluster.
        say: Gets lines for the user.

    Raises:
        UserError: The cluster can't take the runs, or the folder can't be written or belongs to another job.
        SchedulerError: Slurm refuses.
    """
    chosen, sweep = choose_cluster(cluster, grid), sweep_of(grid, runs_folder)
    refuse_impossible(chosen, sweep, grid)
    with writing(sweep, say):
        return submit_grid(sweep, grid, chosen, say)


def submit_grid(sweep: Sweep, grid: Grid, cluster: Cluster, say: Say) -> Submitted:
    """Writes the new runs of a grid into its locked sweep, and submits every run that has no job."""
    sweep_file.refuse_other_job(sweep, grid.job.reference)
    confirm.refuse_damaged(sweep)
    submitted_here.remember(sweep.folder, grid.path.parent)
    close_interrupted(sweep)
    found = run_folders.sort(sweep, grid)
    code = snapshot.take(grid.job, grid.methods, grid.code)
    result = Submitted(sweep, cluster.name, new=list(found.new))
    before, result.unreadable = run_folders.read_configs(sweep, list(found.interrupted))
    changes.mend(sweep, {config.origin.code for config in before.values()})
    if found.new or found.unsent:
        for remark in (*code.remarks, *snapshot.keep(code, sweep.code)):
            say(remark)
    sweep_file.write_sweep_file(sweep, grid)
    run_folders.rewrite_runs(sweep, found.unsent, code.hash, cluster.name)
    for name in found.unsent:  # a `cancel` while it had no job
        remove(sweep.run(name).cancel)
    run_folders.write_runs(sweep, found.new, code.hash, cluster.name)
    for name, config in before.items():
        run_folders.update_config(sweep.run(name), config, resources=found.interrupted[name].config.resources)
    _look_at_left(found, result)
    units = run_folders.units(found, code.hash, before)
    units += confirm.units(sweep, cluster.name, [unit.name for unit in units], result)
    hand_over(sweep, cluster, units, packing_of(grid), result)
    return result


def submit_runs(sweep: Sweep, names: list[str], cluster: Cluster, packing: Packing) -> Submitted:
    """Submits those of these runs that have no job, and the confirming runs of their methods.

    Their folders and code are there, and their sweep is locked.
    """
    confirm.refuse_damaged(sweep)
    close_interrupted(sweep)
    waiting = run_folders.without_job(sweep, submissions.read(sweep.submissions))
    result = Submitted(sweep, cluster.name)
    configs, result.unreadable = run_folders.read_configs(sweep, [name for name in names if name in waiting])
    units = [Unit(name, config.resources, config.origin.code) for name, config in configs.items()]
    units += confirm.units(sweep, cluster.name, names, result)
    hand_over(sweep, cluster, units, packing, result)
    return result


def _look_at_left(found: run_folders.Sorted, result: Submitted) -> None:
    """Notes the states of the runs that are left alone. Those that a `retry` would submit get the grid's resources."""
    result.there = [*found.left, *found.unsent, *found.interrupted]
    if not found.left:
        return
    changed = 0
    for run in observe([result.sweep], found.left):
        result.left.setdefault(run.state, []).append(run.run)
        if run.state in TO_RETRY:
            folder, resources = result.sweep.run(run.run), found.left[run.run].config.resources
            try:
                config = read_sweep_run_config(folder.config)
            except UserError as error:
                result.unreadable[run.run] = str(error)
                continue
            changed += run_folders.update_config(folder, config, resources=resources) != config
    if changed:
        result.notes.append(f"{changed} of them will be retried with the grid's new resources")
