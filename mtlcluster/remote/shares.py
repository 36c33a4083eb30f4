"""Deals the runs of a grid out to clusters: each run to exactly one, and all trials of a method to the same."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.errors import UserError
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.remote.placement import Placement, place_runs
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.yaml_fields import cluster_of


@dataclass
class Share:
    """The runs of the grid on one cluster.

    Attributes:
        cluster: The cluster.
        there: Runs that have or had a job there.
        wanted: Runs that are to get a job there: new ones, and others that never had one.
    """

    cluster: Cluster
    there: list[RunStatus] = field(default_factory=list)
    wanted: list[PlannedRun] = field(default_factory=list)


def deal(
    grid: Grid, sweep: Sweep, targets: Sequence[Cluster], found: dict[str, list[RunStatus]], unheard: dict[str, str]
) -> list[Share]:
    """Deals the runs of a grid out.

    A run that has or had a job stays where it is. A target gets the runs that it has already but never gave a job; the
    others go to the targets in turn. All trials of a method go to the cluster that has one of them.

    Args:
        grid: The grid.
        sweep: Its sweep on this machine.
        targets: The clusters that the user has chosen.
        found: The runs of the sweep on each remote cluster, by its name; the last known ones if it can't be asked.
        unheard: The clusters that can't be asked, and why.

    Returns:
        The shares of the targets and of the clusters that have runs of this grid.

    Raises:
        UserError: A method has new trials, and its others are on a cluster that is no target.
    """
    shares = {target.name: Share(target) for target in targets}
    turn = itertools.cycle(list(shares.values()))
    here = observe([sweep]) if sweep.grid.exists() else []
    known = {key: home for (_, key), home in place_runs(here, found).items()}
    for method, group in together(grid):
        homes = {run.hash: known[run.hash] for run in group if run.hash in known}
        settled = {
            key: cluster for key, home in homes.items() if (cluster := _settled(sweep, home, unheard)) is not None
        }
        for key, cluster in settled.items():
            homes[key].run.cluster = cluster
            shares.setdefault(cluster, Share(Cluster(cluster))).there.append(homes[key].run)
        wanted = [_named(planned, homes) for planned in group if planned.hash not in settled]
        if not wanted:
            continue
        kept = [*settled.values(), *(home.cluster for home in homes.values() if home.cluster in shares)]
        if method and kept and kept[0] not in {target.name for target in targets}:
            raise UserError(f"the trials of {method} are on {kept[0]}; submit to it, too: --cluster {kept[0]}")
        share = shares[kept[0]] if kept else next(turn)
        share.wanted += wanted
    return list(shares.values())


def together(grid: Grid) -> list[tuple[str, list[PlannedRun]]]:
    """The runs of a grid in groups that belong on one cluster.

    Returns:
        Each method of a search with the runs of its trials; methods that share a run are one group. Without a search:
        "" with each single run.
    """
    if grid.search is None:
        return [("", [run]) for run in grid.runs]
    group_of: dict[str, str] = {}  # by run, the method that names its group
    for method in grid.search.methods.values():
        runs = {run for trial in method.trials for run in trial.runs.values()}
        shared = {group_of[run] for run in runs if run in group_of}
        group_of |= dict.fromkeys(runs | {run for run, group in group_of.items() if group in shared}, method.name)
    groups: dict[str, list[PlannedRun]] = {}
    for run in grid.runs:
        groups.setdefault(group_of[run.hash], []).append(run)
    return list(groups.items())


def _named(planned: PlannedRun, homes: dict[str, Placement]) -> PlannedRun:
    """The run with the name of the folder that it has already."""
    home = homes.get(planned.hash)
    return dataclasses.replace(planned, name=home.run.run) if home else planned


def _settled(sweep: Sweep, home: Placement, unheard: dict[str, str]) -> str | None:
    """The cluster of a run that must not be dealt out again; None for any other run.

    Such a run has or had a job, was brought home, or may have been given to a cluster that can't be asked.
    """
    run = home.run
    if home.cluster:
        return home.cluster if run.job_id or run.ended or home.cluster in unheard else None
    if run.job_id:
        return run.cluster
    cluster = cluster_of(sweep.run(run.run))
    return cluster if (run.ended and run.attempt) or cluster in unheard else None
