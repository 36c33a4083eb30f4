"""`submit --dry-run`: what `submit` would do, as text. Writes nothing anywhere."""

from pathlib import Path

import mtlcluster
from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid
from mtlcluster.config.run import Resources
from mtlcluster.launch import confirm, run_folders, sweep_file
from mtlcluster.launch.budget import budget
from mtlcluster.launch.choose_cluster import choose_cluster, refuse_impossible
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.code.project import shown
from mtlcluster.launch.executors import executor_on
from mtlcluster.launch.hand_over import submission_id, sweep_of
from mtlcluster.launch.packing import Unit, packing_of
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep

LISTED = 100  # files of the code that are named


def preview(grid: Grid, runs_folder: Path, cluster: str | None) -> str:
    """The text of `submit --dry-run`: the runs, their code, and the scripts that sbatch would get."""
    sweep = sweep_of(grid, runs_folder)
    return describe(sweep, grid, choose_cluster(cluster, grid), run_folders.sort(sweep, grid))


def describe(sweep: Sweep, grid: Grid, cluster: Cluster, found: run_folders.Sorted) -> str:
    """The text for these runs of the grid on this cluster. Raises UserError where `submit` would."""
    sweep_file.refuse_other_job(sweep, grid.job.reference)
    refuse_impossible(cluster, sweep, grid)
    code = snapshot.take(grid.job, grid.methods, grid.code)
    before, unreadable = run_folders.read_configs(sweep, list(found.interrupted))
    units = run_folders.units(found, code.hash, before)
    there = len(grid.runs) - len(found.new)
    ending = ":" if units else ""
    lines = [f"{len(units)} of {len(grid.runs)} runs to submit, {there} are already there; {sweep.folder}{ending}"]
    lines += [f"  {unit.name}" for unit in units]
    lines += [f"left out: {name}: {why}" for name, why in unreadable.items()]
    lines += budget(sweep, grid, units)
    if units:
        lines += [*_shown(code), *_jobs(sweep, grid, cluster, units + confirm.units_after(grid, units))]
    return "\n".join(lines)


def _shown(code: snapshot.Snapshot) -> list[str]:
    """Lines with the files of the project that would be copied, and remarks about them."""
    library = f"{mtlcluster.__name__}/"
    names = sorted(name for name in code.files if not name.startswith(library))
    more = [f"  … and {len(names) - LISTED:,} more"] if len(names) > LISTED else []
    head = f"their code, beside mtlcluster itself: {len(names):,} files"
    files = ["", head, *(f"  {shown(name)}" for name in names[:LISTED]), *more]
    return [*files, "", *code.remarks] if code.remarks else files


def _jobs(sweep: Sweep, grid: Grid, cluster: Cluster, units: list[Unit]) -> list[str]:
    """The jobs that would be submitted, as their executor shows them."""
    executor, first = executor_on(cluster.name), submissions.next_number(sweep.submissions)
    lines = executor.remarks(units, cluster)
    lines += sorted({_ranks(unit.resources) for unit in units} - {""})
    if cluster.is_remote:
        sweep = Sweep(Path(cluster.root, "runs", sweep.name))
    for number, array in enumerate(executor.arrays(units, packing_of(grid), cluster), first):
        lines += ["", executor.script(sweep, submission_id(number), array, cluster)]
    return lines


def _ranks(wanted: Resources) -> str:
    """A sentence with the number of processes of one run; "" for a single process."""
    nodes = f", on {wanted.nodes} nodes" if wanted.nodes > 1 else ""
    return f"a run is trained by {wanted.ranks} processes (ranks){nodes}" if wanted.ranks > 1 else ""
