"""`mtlcluster cancel` for runs on this machine and on remote clusters."""

from typing import TYPE_CHECKING, Any

from mtlcluster.launch import cancel
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.progress import Say
from mtlcluster.remote.all_runs import AllRuns

if TYPE_CHECKING:
    from mtlcluster.remote.clusters import RemoteCluster


def cancel_runs(all_runs: AllRuns, runs: list[RunStatus], say: Say) -> list[RunStatus]:
    """Stops runs of the sweep, on all clusters at the same time.

    Args:
        all_runs: The observed runs of the sweep.
        runs: The runs to stop.
        say: Gets lines for the user.

    Returns:
        The runs as they are then; see `launch.cancel.cancel`.

    Raises:
        ClusterError: A cluster can't be reached. The others have been told by then.
    """
    parts = all_runs.by_cluster(runs)
    own = parts.pop("", [])
    here = cancel.cancel(all_runs.sweep, own, say) if own else []
    if not parts or all_runs.clusters is None:
        return here
    say(f"waiting until running runs on {', '.join(parts)} have saved a checkpoint")

    def ask(remote: "RemoteCluster") -> Any:
        return remote.call("cancel", sweep=all_runs.name, names=[run.run for run in parts[remote.name]])

    all_runs.take_in(all_runs.clusters.each(parts, ask))
    replies, meant = all_runs.replies[all_runs.sweep.name], {run.run for members in parts.values() for run in members}
    return [*here, *(run for cluster in parts for run in replies[cluster].runs if run.run in meant)]
