"""Chooses the cluster for a grid, and refuses runs that can never start there."""

from collections.abc import Iterable
from pathlib import Path

from mtlcluster.config.cluster import Cluster, find_cluster
from mtlcluster.config.cluster_files import LOCAL, SLURM
from mtlcluster.config.grid import Grid
from mtlcluster.config.run import Resources
from mtlcluster.errors import UserError
from mtlcluster.launch.executors import EXECUTORS, executor_on, slurm
from mtlcluster.launch.packing import Packing, Unit, pack, packing_of
from mtlcluster.sweep.folder import Sweep


def choose_cluster(name: str | None, grid: Grid) -> Cluster:
    """The cluster called `name`, else the one that the grid names, else Slurm if it is installed, else this machine.

    Raises:
        UserError: There is no such cluster, or it takes no jobs now. If Slurm is installed but does not answer, this is
            a login node, which must not train in its place.
    """
    if name := name or grid.file.cluster:
        return ready_cluster(name, grid.path.parent, "--cluster local trains on this machine")
    usual = SLURM if slurm.installed() else LOCAL
    return ready_cluster(usual, grid.path.parent, "try again, or train here: --cluster local")


def ready_cluster(name: str, grid_folder: Path | None, advice: str) -> Cluster:
    """The cluster called `name`, once its executor takes jobs. Raises UserError with `advice` if it does not.

    grid_folder: see cluster_files. A remote cluster is not asked.
    """
    needs_no_file = name in EXECUTORS and name != SLURM
    cluster = Cluster(name) if needs_no_file else find_cluster(name, grid_folder)
    if not cluster.is_remote and (why := executor_on(name).why_away()):
        raise UserError(f"cluster '{name}': {why}; {advice}")
    return cluster


def refuse_impossible(cluster: Cluster, sweep: Sweep, grid: Grid) -> None:
    """Raises UserError for a grid with runs that can never start on this cluster."""
    refuse_impossible_runs(cluster, sweep, [run.config.resources for run in grid.runs], packing_of(grid), grid.path)


def refuse_impossible_runs(
    cluster: Cluster, sweep: Sweep, wanted: Iterable[Resources], packing: Packing, asked_in: Path
) -> None:
    """Raises UserError for runs that can never start on this cluster.

    A job of fewer of these runs asks for no more, so this also holds if only some of them need a job.

    Args:
        cluster: The cluster to submit them to.
        sweep: Their sweep.
        wanted: The resources of each run.
        packing: The numbers by which they share jobs.
        asked_in: The file that asks for these resources.
    """
    units = [Unit("", resources, "") for resources in wanted]
    for array in pack(units, packing, largest_array=len(units)):
        if why := executor_on(cluster.name).limits(sweep, array, cluster):
            raise UserError(f"{asked_in}: {why}")
