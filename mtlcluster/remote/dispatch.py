"""`mtlcluster submit` to remote clusters: each run of a grid goes to exactly one cluster, once.

First, `submit` asks all clusters which runs of the sweep they have. Then it distributes the new runs over the targets,
writes them into the sweep's folder here, copies them to their cluster, and submits them there. If it is interrupted at
any point, the next submit finds what has arrived, and continues.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlcluster.config import submitted_here
from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.errors import ClusterError, UserError
from mtlcluster.errors import together as as_one
from mtlcluster.launch import run_folders, sweep_file
from mtlcluster.launch.choose_cluster import choose_cluster, refuse_impossible
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.dry_run import describe
from mtlcluster.launch.hand_over import Submitted, sweep_of, writing
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.launch.submit import submit_grid
from mtlcluster.progress import Say
from mtlcluster.remote import status_cache
from mtlcluster.remote.agent_reply import unreadable_runs
from mtlcluster.remote.clusters import RemoteCluster, RemoteClusters
from mtlcluster.remote.data_places import adapt, paths_of
from mtlcluster.remote.shares import Share, deal, together
from mtlcluster.remote.status_cache import LastReply
from mtlcluster.remote.this_version import is_this_version
from mtlcluster.remote.upload import name_and_options, upload
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import hash_of


def submit_to(
    grid: Grid, runs_folder: Path, names: Sequence[str | None], remote_clusters: RemoteClusters, say: Say
) -> Submitted:
    """Submits a grid to clusters, wherever they are.

    Args:
        grid: The grid.
        runs_folder: The folder that holds, or will hold, the sweep's folder.
        names: The clusters' names; None for the usual one, see choose_cluster.
        remote_clusters: The remote clusters, which may have runs of this sweep.
        say: Gets lines for the user.

    Returns:
        What was submitted, and which runs were left alone.

    Raises:
        UserError, ClusterError, SchedulerError: See `submit`, and launch.submit.
    """
    targets = [choose_cluster(name, grid) for name in names]
    sweep = sweep_of(grid, runs_folder)
    only_here = sweep.grid.exists() and not sweep.clusters.is_dir()  # submitted before, but never to a remote cluster
    if len(targets) == 1 and not targets[0].is_remote and (only_here or not remote_clusters.by_name):
        return _submit_here(grid, sweep, targets[0], say)
    return submit(grid, runs_folder, targets, remote_clusters, say)


def _submit_here(grid: Grid, sweep: Sweep, cluster: Cluster, say: Say) -> Submitted:
    """Submits to this machine or its Slurm alone.

    Raises:
        UserError: Another submit has begun to use remote clusters in the meantime.
    """
    refuse_impossible(cluster, sweep, grid)
    with writing(sweep, say):
        if sweep.clusters.is_dir():
            raise UserError(f"another submit of {sweep.name} has begun in the meantime; run the command again")
        return submit_grid(sweep, grid, cluster, say)


def previews(grid: Grid, runs_folder: Path, names: Sequence[str | None]) -> Iterator[str]:
    """The dry run of `submit_to`: yields a text for each target. It uses the last replies of the clusters."""
    sweep = sweep_of(grid, runs_folder)
    known = status_cache.last_replies(sweep)
    elsewhere = {hash_of(run.run) for answer in known.values() for run in answer.runs if run.job_id or run.ended}
    groups = together(grid)
    for number, name in enumerate(names):
        part = dataclasses.replace(grid, runs=[run for _, group in groups[number :: len(names)] for run in group])
        cluster = choose_cluster(name, part)
        found = run_folders.sort(sweep, part)
        found.leave(elsewhere)
        yield describe(sweep, part, cluster, found)


def submit(
    grid: Grid, runs_folder: Path, targets: Sequence[Cluster], remote_clusters: RemoteClusters, say: Say
) -> Submitted:
    """Distributes the new runs of a grid over `targets`. A run is new if no cluster has it.

    Raises:
        UserError: Grid, folder or data are wrong. Nothing was written or sent.
        ClusterError: A target can't be reached, and nothing was written or sent. Or a target failed later, and the
            other targets have got their runs.
    """
    sweep = sweep_of(grid, runs_folder)
    sweep_file.refuse_other_job(sweep, grid.job.reference)
    for target in targets:
        refuse_impossible(target, sweep, grid)
    adapted = {target.name: adapt(grid, target) for target in targets}
    before = _grid_time(sweep)
    found, unheard = _ask(grid, sweep, targets, remote_clusters, adapted)
    for name, why in unheard.items():
        last = "its runs are assumed to be as in its last reply" if found[name] else "nothing is known about its runs"
        say(f"{why}; {last}")
    with writing(sweep, say):
        if _grid_time(sweep) != before:  # the replies may be out of date
            raise UserError(f"another submit of {sweep.name} has finished in the meantime; run the command again")
        submitted_here.remember(sweep.folder, grid.path.parent)
        result = Submitted(sweep, ", ".join(target.name for target in targets))
        shares = deal(grid, sweep, targets, found, unheard)
        code = _write(grid, sweep, shares, adapted, result, say)
        for name, there in found.items():
            if there and name not in unheard:
                status_cache.save_reply(sweep, name, LastReply(time.time(), there))
        parts = {s.cluster.name: s for s in shares if s.cluster.is_remote and _has_work(s, grid, targets)}
        failed = _send(grid, sweep, shares, parts, code, remote_clusters, say, result)
    for share in shares:  # this machine may be among the targets, too
        if not share.cluster.is_remote and _has_work(share, grid, targets):
            with writing(sweep, say):
                _add(result, submit_grid(sweep, dataclasses.replace(grid, runs=share.wanted), share.cluster, say))
    if failed:
        raise as_one(failed, "; to complete it, submit again")
    return result


def _grid_time(sweep: Sweep) -> int:
    """The time at which the last submit wrote the grid [ns]; 0 before the first submit."""
    return sweep.grid.stat().st_mtime_ns if sweep.grid.exists() else 0


def _ask(
    grid: Grid,
    sweep: Sweep,
    targets: Sequence[Cluster],
    remote_clusters: RemoteClusters,
    adapted: dict[str, dict[str, PlannedRun]],
) -> tuple[dict[str, list[RunStatus]], dict[str, str]]:
    """Asks all clusters for their runs of the sweep.

    Returns:
        The runs on each cluster, by its name; and for each cluster that could not be asked, the reason.
    """
    paths = {t.name: paths_of(adapted[t.name]) for t in targets if t.is_remote}

    def ask(remote: RemoteCluster) -> dict[str, Any]:
        if remote.name not in paths:
            return remote.call("look", sweep=sweep.name)
        return remote.call("prepare", sweep=sweep.name, job=grid.job.reference, paths=[*paths[remote.name]])

    known = status_cache.last_replies(sweep)
    replies = remote_clusters.each([*dict.fromkeys([*paths, *remote_clusters.by_name, *known])], ask)
    if failed := [reply for name in paths if isinstance(reply := replies[name], ClusterError)]:
        raise as_one(failed, "; nothing was submitted")
    found, unheard = {}, {}
    for name, reply in replies.items():
        if isinstance(reply, ClusterError):
            found[name] = known[name].runs if name in known else []
            unheard[name] = str(reply)
            continue
        found[name] = reply["runs"]
        if found[name] and not sweep.grid.exists():
            _refuse_other_sweep(grid, name, reply)
        if name in paths:
            _refuse_unfit(name, reply, paths[name])
    return found, unheard


def _refuse_other_sweep(grid: Grid, cluster: str, reply: dict[str, Any]) -> None:
    """Refuses to add to a sweep that only a cluster has, if the grid was read without what the sweep's folder keeps:
    older defaults, and the trials that were drawn.
    """
    name, defaults, searched = grid.file.name, reply.get("defaults"), reply.get("searched")
    version = defaults.get(name) if isinstance(defaults, dict) else None
    what = f"was submitted under the defaults of version {version!r}" if version not in (None, grid.defaults) else ""
    if not what and isinstance(searched, list) and name in searched:
        what = "has trials that are drawn already"
    if what:
        words = f"mtlcluster collect {name} brings its files here; then submit again"
        raise UserError(f"sweep {name}, which is on {cluster} and not here, {what}; {words}")


def _refuse_unfit(cluster: str, reply: dict[str, Any], paths: dict[str, str]) -> None:
    """Refuses a target that lacks this version of mtlcluster, Slurm, or data of the grid.

    Args:
        cluster: The name of the target.
        reply: Its reply to `prepare`.
        paths: The paths in the grid, each with its option; see `paths_of`.
    """
    if not is_this_version(reply["version"]):
        raise ClusterError(
            f"{cluster} has another version of mtlcluster; mtlcluster setup --cluster {cluster} brings it up to date"
        )
    if not reply["slurm"]:
        raise ClusterError(
            f"{cluster}: Slurm does not answer there (is sbatch installed, and is its controller running?)"
        )
    if reply["missing"]:
        listed = "".join(f"\n  {path} ({paths[path]})" for path in reply["missing"])
        raise UserError(
            f"{cluster} does not have the data that the grid names:{listed}\n"
            f"copy them there, or give their paths on {cluster} under its `data:` in the cluster file"
        )


def _write(
    grid: Grid,
    sweep: Sweep,
    shares: list[Share],
    adapted: dict[str, dict[str, PlannedRun]],
    result: Submitted,
    say: Say,
) -> str:
    """Writes the sweep's folder here: grid, code, and runs with their cluster's paths. Returns the code's hash."""
    code = snapshot.take(grid.job, grid.methods, grid.code)
    remote = [share for share in shares if share.cluster.is_remote]
    if any(share.wanted for share in remote):
        for remark in (*code.remarks, *snapshot.keep(code, sweep.code)):
            say(remark)
    sweep_file.write_sweep_file(sweep, grid)
    folders = sweep.by_identity()
    for share in shares:
        result.there += [run.run for run in share.there]
        for run in share.there:
            result.left.setdefault(run.state, []).append(run.run)
    for share in remote:
        planned = [(run.name, adapted[share.cluster.name][run.hash]) for run in share.wanted]
        share.wanted = [
            dataclasses.replace(run, name=folders[run.hash].name if run.hash in folders else name)
            for name, run in planned
        ]
        new = {run.name: run for run in share.wanted if run.hash not in folders}
        unsent = {run.name: run for run in share.wanted if run.hash in folders}
        run_folders.write_runs(sweep, new, code.hash, share.cluster.name)
        run_folders.rewrite_runs(sweep, unsent, code.hash, share.cluster.name)
        for name in unsent:  # the run may have been cancelled while it had no job
            sweep.run(name).cancel.unlink(missing_ok=True)
        result.new += new
        result.there += unsent
        if share.wanted:
            status_cache.expect_runs(sweep, share.cluster.name)
    return code.hash


def _send(
    grid: Grid,
    sweep: Sweep,
    shares: list[Share],
    parts: dict[str, Share],
    code: str,
    remote_clusters: RemoteClusters,
    say: Say,
    result: Submitted,
) -> list[ClusterError]:
    """Copies the runs to their clusters and submits them there, all clusters in parallel. Returns the errors."""

    def send(remote: RemoteCluster) -> dict[str, Any]:
        names = [run.name for run in parts[remote.name].wanted]
        say(f"{remote.name}: copying {len(names):,} runs and their code")
        about = ["sweep.yaml", *(["trials.json"] if grid.search else []), *([f"code/{code}"] if names else [])]
        folder = upload(remote, sweep, [*about, *(f"{name}/config.yaml" for name in names)])
        say(f"{remote.name}: submitting")
        packing = {"runs_per_job": grid.file.runs_per_job, "at_once": grid.file.at_once}
        wanted = {"names": names, "code": code, "arriving": folder, **packing, **name_and_options(remote)}
        return remote.call("submit", sweep=sweep.name, **wanted)

    failed = []
    for name, reply in remote_clusters.each(parts, send).items():
        if isinstance(reply, ClusterError):
            failed.append(reply)
            continue
        status_cache.save_reply(sweep, name, LastReply(time.time(), reply["runs"]))
        result.submitted += reply["submitted"]
        result.job_ids += reply["jobs"]
        result.unreadable |= unreadable_runs(reply)
        if len(parts) > 1:
            result.notes.append(f"{len(reply['submitted']):,} of them on {name}")
    for share in shares:
        if share.there and len(shares) > 1:
            result.notes.append(f"{len(share.there):,} are on {share.cluster.name}")
    return failed


def _has_work(share: Share, grid: Grid, targets: Sequence[Cluster]) -> bool:
    """True if a cluster gets something to do. In a search it looks whether its choices still hold."""
    is_target = share.cluster.name in {target.name for target in targets}
    return bool(share.wanted) or (grid.search is not None and is_target and bool(share.there))


def _add(result: Submitted, more: Submitted) -> None:
    """Adds to `result` what another submission did."""
    result.new += more.new
    result.there += more.there
    result.submitted += more.submitted
    result.job_ids += more.job_ids
    result.notes += more.notes
    result.unreadable |= more.unreadable
