"""Deals the runs of a grid out to clusters: each run to exactly one."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid, PlannedRun
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
    others go to the targets in turn.

    Args:
        grid: The grid.
        sweep: Its sweep on this machine.
        targets: The clusters that the user has chosen.
        found: The runs of the sweep on each remote cluster, by its name; the last known ones if it can't be asked.
        unheard: The clusters that can't be asked, and why.

    Returns:
        The shares of the targets and of the clusters that have runs of this grid.
    """
    shares = {target.name: Share(target) for target in targets}
    turn = itertools.cycle(list(shares.values()))
    here = observe([sweep]) if sweep.grid.exists() else []
    known = {key: home for (_, key), home in place_runs(here, found).items()}
    for planned in grid.runs:
        home = known.get(planned.hash)
        cluster = _settled(sweep, home, unheard) if home else None
        if home and cluster is not None:
            home.run.cluster = cluster
            shares.setdefault(cluster, Share(Cluster(cluster))).there.append(home.run)
        elif home and home.cluster in shares:
            shares[home.cluster].wanted.append(dataclasses.replace(planned, name=home.run.run))
        else:
            next(turn).wanted.append(planned)
    return list(shares.values())


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
