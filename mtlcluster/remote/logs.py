"""`mtlcluster logs` for runs on remote clusters."""

from mtlcluster.launch.run_status import RunStatus
from mtlcluster.remote.all_runs import AllRuns


def print_log(all_runs: AllRuns, run: RunStatus, lines: int, follow: bool) -> int | None:
    """Prints the log of a run that a remote cluster has.

    Args:
        all_runs: The observed runs of the sweep.
        run: One of them.
        lines: The number of last lines to show.
        follow: Goes on until the run ends.

    Returns:
        The exit status; None if the run is on this machine.

    Raises:
        ClusterError: The cluster can't be reached.
    """
    cluster = all_runs.remote_cluster_of(run)
    if not cluster or all_runs.clusters is None:
        return None
    remote = all_runs.clusters[cluster]
    options = ["--lines", str(lines), "--runs", f"{remote.root}/runs", *(["--follow"] if follow else [])]
    arguments = ["logs", *options, "--", run.sweep, run.run]
    return remote.connection.stream(remote.python_script("-m", "mtlcluster", *arguments))
