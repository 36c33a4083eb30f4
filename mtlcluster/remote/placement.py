"""Where each run lives: it has exactly one home, whatever folders there are of it."""

from collections.abc import Iterable
from typing import NamedTuple

from mtlcluster.launch.run_status import RunStatus
from mtlcluster.sweep.names import hash_of

Key = tuple[str, str]  # of a run: its sweep's name and its hash


class Home(NamedTuple):
    """cluster: the remote one; "" is this machine."""

    cluster: str
    run: RunStatus


def homes(here: Iterable[RunStatus], there: dict[str, list[RunStatus]]) -> dict[Key, Home]:
    """The home of every run of which there is a folder here, or on a remote cluster (`there`, by cluster).

    Who has given it a job comes first; then where it ended; then where it waits for one.
    """
    candidates = [(_rank(run, "here"), Home("", run)) for run in here]
    candidates += [(_rank(run, "there"), Home(cluster, run)) for cluster, runs in there.items() for run in runs]
    found: dict[Key, Home] = {}
    for _, home in sorted(candidates, key=lambda candidate: candidate[0]):
        found.setdefault((home.run.sweep, hash_of(home.run.run)), home)
    return found


def _rank(run: RunStatus, where: str) -> int:
    if where == "here":  # without a job, but trained: it was brought home
        return 0 if run.job_id else 2 if run.ended and run.attempt else 4
    return 1 if run.job_id or run.ended else 3
