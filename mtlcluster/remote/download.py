"""Copies results of runs from remote clusters: histories, logs, configurations; checkpoints if asked for."""

import time
from pathlib import Path

from mtlcluster.errors import ClusterError, together
from mtlcluster.launch.status_table import duration
from mtlcluster.progress import Say
from mtlcluster.remote import status_cache
from mtlcluster.remote.all_runs import AllRuns
from mtlcluster.remote.clusters import RemoteCluster
from mtlcluster.remote.transfer import OF_A_RUN, Checkpoints, Transfer
from mtlcluster.sweep.file_sizes import OfRuns
from mtlcluster.sweep.folder import Sweep, find_sweep, sweeps

SECOND = 10**9  # nanoseconds; rsync compares whole seconds
ABSENT = (None,) * len(OF_A_RUN)


def download(
    runs_folder: Path, name: str | None, checkpoints: Checkpoints | None, say: Say
) -> tuple[list[Sweep], ClusterError | None]:
    """Copies new files of a sweep, or of all sweeps, to this machine.

    The user is told which clusters can't be reached, and how old the files from there are.

    Args:
        runs_folder: The runs folder here.
        name: The name of the sweep; None: all sweeps.
        checkpoints: Which checkpoints to bring home; None for no checkpoints.
        say: Gets lines for the user.

    Returns:
        The sweeps that are here then, and what could not be brought home.

    Raises:
        UserError: No cluster has the sweep, nor is it here.
        ClusterError: Nothing of the sweep has arrived.
    """
    failed = None
    with AllRuns(runs_folder, name, OF_A_RUN) as all_runs:
        if all_runs.clusters is not None:
            parts = _sweeps_of_clusters(all_runs, say)

            def bring(remote: RemoteCluster) -> None:
                for sweep in parts[remote.name]:
                    _bring(all_runs, remote, sweep, checkpoints, say)

            ended = all_runs.clusters.each(parts, bring)
            if errors := [error for error in ended.values() if isinstance(error, ClusterError)]:
                failed = together(errors)
                if name and not Sweep(runs_folder / name).grid.exists():
                    raise failed
    return [find_sweep(runs_folder, name)] if name else sweeps(runs_folder), failed


def _sweeps_of_clusters(all_runs: AllRuns, say: Say) -> dict[str, list[str]]:
    """The clusters that answer, and the sweeps of each."""
    all_runs.ask()
    for cluster, why in all_runs.unreachable.items():
        times = [replies[cluster].time for replies in all_runs.replies.values() if cluster in replies]
        newest = max(times, default=0.0)
        old = f" (its last reply is {duration(time.time() - newest)} old)" if newest else ""
        say(f"{cluster} is left out{old}: {why}")
    parts: dict[str, list[str]] = {}
    for sweep, replies in all_runs.replies.items():
        for cluster in replies.keys() - all_runs.unreachable.keys():
            if replies[cluster].runs:
                parts.setdefault(cluster, []).append(sweep)
    return parts


def _bring(all_runs: AllRuns, remote: RemoteCluster, name: str, checkpoints: Checkpoints | None, say: Say) -> None:
    """Brings home what is new of a sweep from one cluster."""
    sweep = Sweep(all_runs.runs_folder / name)
    new = _new_files(all_runs.sizes_here.get(name, {}), all_runs.sizes_there[remote.name].get(name))
    if not checkpoints and new == {} and sweep.grid.exists():
        return
    if not sweep.grid.exists():  # saved before the transfer: if it breaks off, the next call asks this cluster again
        status_cache.save_reply(sweep, remote.name, all_runs.replies[name][remote.name])
    Transfer(remote, sweep, checkpoints, say).run(new or {})


def _new_files(here: OfRuns, there: OfRuns | None) -> dict[str, int] | None:
    """Finds out, without rsync and its round trips, which files of runs are new.

    Args:
        here: Sizes and times of the files here.
        there: The same on the cluster; None where it is not known.

    Returns:
        The sizes in bytes of the new files on the cluster, by name. None where `there` is not known.
    """
    if there is None:
        return None
    return {
        f"{run}/{name}": theirs[0]
        for run, files in there.items()
        for name, theirs, own in zip(OF_A_RUN, files, here.get(run, ABSENT), strict=True)
        if theirs is not None and (own is None or theirs[0] != own[0] or theirs[1] // SECOND != own[1] // SECOND)
    }
