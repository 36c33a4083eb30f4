"""Decides which cluster a run is on. Copies of its folder may be in several places; the run itself is in one."""

from collections.abc import Iterable
from typing import NamedTuple

from mtlcluster.launch.run_status import RunStatus
from mtlcluster.sweep.names import hash_of

RunKey = tuple[str, str]  # the name of the sweep and the hash of the run


class Placement(NamedTuple):
    """A run and where it is. cluster: the remote cluster; empty for this machine."""

    cluster: str
    run: RunStatus


def place_runs(here: Iterable[RunStatus], there: dict[str, list[RunStatus]]) -> dict[RunKey, Placement]:
    """Places every run that has a folder here or on a remote cluster.

    Precedence: where it was submitted, then where it ended, then where it waits.

    Args:
        here: The runs with a folder on this machine.
        there: Those with a folder on a remote cluster, by cluster.
    """
    candidates = [(_rank_here(run), Placement("", run)) for run in here]
    candidates += [(_rank_there(run), Placement(cluster, run)) for cluster, runs in there.items() for run in runs]
    found: dict[RunKey, Placement] = {}
    for _, placement in sorted(candidates, key=lambda candidate: candidate[0]):
        found.setdefault((placement.run.sweep, hash_of(placement.run.run)), placement)
    return found


def _rank_here(run: RunStatus) -> int:
    """The precedence of a folder here, 0 first. One that was trained, but has no job, was brought home."""
    return 0 if run.job_id else 2 if run.ended and run.attempt else 4


def _rank_there(run: RunStatus) -> int:
    return 1 if run.job_id or run.ended else 3
