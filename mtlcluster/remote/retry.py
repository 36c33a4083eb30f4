"""`mtlcluster retry` for runs on this machine and on remote clusters."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from mtlcluster.errors import UserError
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.progress import Say
from mtlcluster.remote.agent_reply import unreadable_runs
from mtlcluster.remote.all_runs import AllRuns
from mtlcluster.sweep.folder import Sweep, forget_results
from mtlcluster.sweep.locks import locked
from mtlcluster.sweep.names import PLACEHOLDER, fits

if TYPE_CHECKING:
    from mtlcluster.launch.hand_over import Submitted
    from mtlcluster.remote.clusters import RemoteCluster


def retry_runs(all_runs: AllRuns, runs: list[RunStatus], restart: bool, say: Say) -> "Submitted":
    """Submits runs of the sweep once more, each on its cluster, with the resources that the grid here asks for now.

    Args:
        all_runs: The observed runs of the sweep.
        runs: The runs to submit.
        restart: From scratch, with the code as it is now. See `launch.retry.resubmit`.
        say: Gets lines for the user.

    Raises:
        UserError: A run was never sent to its cluster, or a restart needs what is not here.
        ClusterError: A cluster can't be reached.
    """
    from mtlcluster.launch.hand_over import Submitted
    from mtlcluster.launch.retry import resubmit

    parts = all_runs.by_cluster(runs)
    own = parts.pop("", [])
    elsewhere = [run for run in own if run.cluster in all_runs.cluster_names]
    if unsent := [run.run for run in elsewhere if not run.job_id and not run.attempt]:
        raise UserError(f"{', '.join(unsent)}: never sent to a cluster; submit the grid again")
    sweep = all_runs.sweep
    result = resubmit(sweep, [run.run for run in own], restart, say) if own else Submitted(sweep, "")
    result.cluster = ", ".join(filter(None, [result.cluster, *parts]))
    if parts:
        _retry_there(all_runs, parts, restart, result, say)
    return result


def _retry_there(
    all_runs: AllRuns, parts: dict[str, list[RunStatus]], restart: bool, result: "Submitted", say: Say
) -> None:
    """Submits the runs of remote clusters, by cluster, and adds what was submitted to `result`."""
    from mtlcluster.remote.upload import arrival_folder, name_and_options, upload

    sweep, is_here = all_runs.sweep, bool(all_runs.sweeps)
    names = [run.run for members in parts.values() for run in members if not fits(PLACEHOLDER, run.run)]
    has_configs = all(sweep.run(name).config.exists() for name in names)
    if restart and not has_configs:
        raise UserError(f"{sweep.name}: not all of it is here; collect it, or submit its grid, before a restart")

    def ask(remote: "RemoteCluster") -> Any:
        files = [*(["sweep.yaml"] if is_here else []), *(f"code/{one}" for one in sorted({code, *kept} - {""}))]
        folder = upload(remote, sweep, files) if files else arrival_folder(sweep)
        chosen = [run.run for run in parts[remote.name]]
        of_code = {"code": code if restart else "", "fresh": "" if restart else code}
        options = name_and_options(remote)
        return remote.call("retry", sweep=sweep.name, names=chosen, **of_code, arriving=folder, **options)

    assert all_runs.clusters is not None
    with locked(sweep.lock, say) if is_here else nullcontext():
        code, remarks = _keep_present_code(sweep, names, restart, is_here and has_configs)
        for remark in remarks:
            say(remark)
        kept = set() if restart else _codes(sweep, names)  # sent, too: they may be damaged on the cluster
        for reply in all_runs.take_in(all_runs.clusters.each(parts, ask)):
            result.submitted += reply["submitted"]
            result.job_ids += reply["jobs"]
            result.unreadable |= unreadable_runs(reply)
    for run in map(sweep.run, names if restart else []):  # results brought home are of the former code
        forget_results(run)


def _keep_present_code(sweep: Sweep, names: list[str], restart: bool, is_here: bool) -> tuple[str, list[str]]:
    """Takes a snapshot of the runs' code as it is now.

    Returns:
        The hash of the snapshot, and remarks for the user. The hash is empty if the code is not here.
    """
    from mtlcluster.launch.code.changes import CurrentCode

    if not restart and not (is_here and CurrentCode(sweep).is_here):
        return "", []
    return CurrentCode(sweep).keep(names)


def _codes(sweep: Sweep, names: list[str]) -> set[str]:
    """The snapshots that the runs began with, as far as they are here."""
    from mtlcluster.config.run import read_sweep_run_config

    here = [run for run in map(sweep.run, names) if run.config.exists()]
    codes = {read_sweep_run_config(run.config).origin.code for run in here}
    return {code for code in codes if (sweep.code / code).is_dir()}
