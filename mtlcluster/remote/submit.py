"""`mtlcluster submit` where clusters other than this machine's have a part in it: each run of a grid goes to exactly
one cluster, once.

All clusters are asked first which runs of the sweep they have. What is new is dealt out, written into the sweep's
folder here, copied to its cluster, and submitted there. Broken off anywhere, the next submit finds what has arrived,
and goes on.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.job_file import JobFile
from mtlcluster.config.run import PLACED, is_path
from mtlcluster.errors import ClusterError, UserError
from mtlcluster.launch import runs, snapshot
from mtlcluster.launch import submit as launch
from mtlcluster.launch.status import RunStatus, observe
from mtlcluster.launch.submit import Submitted, sweep_of
from mtlcluster.remote import answers
from mtlcluster.remote.answers import Answer
from mtlcluster.remote.fleet import Fleet, Remote, fleet_of
from mtlcluster.remote.ship import ship, wanted_of
from mtlcluster.sweep.files import locked
from mtlcluster.sweep.folder import Sweep

Notify = Callable[[str], object]


@dataclass
class Share:
    """What one cluster has of the grid, and what it is to get."""

    cluster: Cluster
    there: list[RunStatus] = field(default_factory=list)        # has or had a job there
    wanted: list[PlannedRun] = field(default_factory=list)      # new, or never given a job


def submit_to(grid: Grid, runs_folder: Path, names: Sequence[str | None], notify: Notify) -> Submitted:
    """Submits to the clusters of these names (None: the grid's own, or what there is here), wherever they are."""
    targets = [launch.choose_cluster(name, grid) for name in names]
    sweep = sweep_of(grid, runs_folder)
    if len(targets) == 1 and not targets[0].is_remote and not sweep.clusters.is_dir():
        return launch.submit(grid, runs_folder, names[0], notify)
    with fleet_of([grid.path.parent]) as fleet:
        return submit(grid, runs_folder, targets, fleet, notify)


def submit(grid: Grid, runs_folder: Path, targets: Sequence[Cluster], fleet: Fleet, notify: Notify) -> Submitted:
    """Gives every run of the grid that no cluster has to one of `targets`.

    Raises UserError for what is wrong with grid, folder or data, and ClusterError for a target that can't be reached,
    both before anything is written or sent; ClusterError also where a target fails later, once the others are done.
    """
    sweep = sweep_of(grid, runs_folder)
    runs.refuse_other_job(sweep, grid.job.reference)
    for target in targets:
        launch.refuse_too_much(target, grid)
    adapted = {target.name: adapt(grid, target) for target in targets}
    found, unheard = _ask(grid, sweep, targets, fleet, adapted)
    result = Submitted(sweep, ", ".join(target.name for target in targets))
    for why in unheard.values():
        result.notes.append(f"{why}; its runs of {sweep.name} are taken to be those that it had last")
    with launch.disk_errors(sweep), locked(sweep.lock, notify):
        shares = _deal(grid, sweep, targets, found, unheard)
        _write(grid, sweep, shares, adapted, result)
        _send(grid, sweep, shares, fleet, notify, result)
    for share in shares:        # this machine, too, may be among the targets
        if not share.cluster.is_remote and share.wanted:
            part = dataclasses.replace(grid, runs=share.wanted)
            _add(result, launch.submit(part, runs_folder, share.cluster.name, notify))
    return result


def adapt(grid: Grid, cluster: Cluster) -> dict[str, PlannedRun]:
    """The runs by their hash, with the data where this cluster has them. Raises UserError naming file and line."""
    places = cluster.options.data.get(job_name(grid.job), {})
    if cluster.file and (mistake := grid.job.check("data", places)):
        cluster.file.refuse((cluster.name, "data", job_name(grid.job), mistake[0]), mistake[1])
    adapted = {}
    for run in grid.runs:
        data = {**run.config.data, **places}
        adapted[run.hash] = dataclasses.replace(run, config=run.config.model_copy(update={"data": data}))
    return adapted


def job_name(job: JobFile) -> str:
    """`digits` of jobs/digits.py, `comic_mischief` of jobs/comic_mischief/__init__.py."""
    return job.file.parent.name if job.file.stem == "__init__" else job.file.stem


def paths_of(planned: dict[str, PlannedRun]) -> dict[str, str]:
    """Every path in the options of data and model, each with where it stands, such as data.features."""
    found: dict[str, str] = {}
    for run in planned.values():
        for section in PLACED:
            for key, value in getattr(run.config, section).items():
                for inner in value if isinstance(value, list) else [value]:
                    if is_path(inner):
                        found.setdefault(inner, f"{section}.{key}")
    return found


def _ask(
    grid: Grid, sweep: Sweep, targets: Sequence[Cluster], fleet: Fleet, adapted: dict[str, dict[str, PlannedRun]]
) -> tuple[dict[str, list[RunStatus]], dict[str, str]]:
    """What each cluster has of the sweep, by its name; and why some could not be asked."""
    paths = {t.name: paths_of(adapted[t.name]) for t in targets if t.is_remote}

    def ask(remote: Remote) -> dict[str, Any]:
        if remote.name not in paths:
            return remote.call("look", sweep=sweep.name)
        return remote.call("prepare", sweep=sweep.name, job=grid.job.reference, paths=[*paths[remote.name]])

    known = answers.known(sweep)
    replies = fleet.each([*dict.fromkeys([*paths, *fleet.remotes, *known])], ask)
    if failed := [str(replies[name]) for name in paths if isinstance(replies[name], ClusterError)]:
        raise ClusterError(f"{'; '.join(failed)}; nothing was submitted")
    found, unheard = {}, {}
    for name, reply in replies.items():
        if isinstance(reply, ClusterError):
            found[name] = known[name].runs if name in known else []
            unheard[name] = str(reply)
            continue
        found[name] = answers.rows(reply["runs"], name)
        if name in paths:
            _refuse_unfit(name, reply, paths[name])
    return found, unheard


def _refuse_unfit(cluster: str, reply: dict[str, Any], paths: dict[str, str]) -> None:
    if reply["version"] != snapshot.library_hash():
        raise ClusterError(
            f"{cluster} has another version of mtlcluster; mtlcluster setup --cluster {cluster} brings it up to date"
        )
    if not reply["slurm"]:
        raise ClusterError(f"{cluster}: Slurm does not answer there (is sbatch installed, and its controller up?)")
    if reply["missing"]:
        listed = "".join(f"\n  {path} ({paths[path]})" for path in reply["missing"])
        raise UserError(
            f"{cluster} has not got the data that the grid names:{listed}\n"
            f"copy them there, or say under `data:` of {cluster} in the cluster file where they are"
        )


def _deal(
    grid: Grid, sweep: Sweep, targets: Sequence[Cluster], found: dict[str, list[RunStatus]], unheard: dict[str, str]
) -> list[Share]:
    """Every run of the grid to the cluster that has it, else to the targets in turn."""
    shares = {target.name: Share(target) for target in targets}
    turn = itertools.cycle(list(shares.values()))
    homes = {runs.hash_of(run.run): run for there in found.values() for run in there}
    homes |= {runs.hash_of(run.run): run for run in _settled_here(sweep, unheard) if runs.hash_of(run.run) not in homes}
    for planned in grid.runs:
        home = homes.get(planned.hash)
        if home is None:
            next(turn).wanted.append(planned)
            continue
        share = shares.setdefault(home.cluster, Share(Cluster(home.cluster)))
        unsent = not home.job_id and not home.ended and any(target.name == home.cluster for target in targets)
        (share.wanted.append(planned) if unsent else share.there.append(home))
    return list(shares.values())


def _settled_here(sweep: Sweep, unheard: dict[str, str]) -> list[RunStatus]:
    """The runs with a folder here that are not to be dealt out again, whatever the clusters say: those that this
    machine trains or that were brought home, and those that a cluster may have got that could not be asked.
    """
    settled = []
    for run in observe([sweep]) if sweep.grid.exists() else []:
        if not (run.job_id or run.ended):
            run.cluster = runs.read_config(sweep.run(run.run)).origin.cluster
        if run.job_id or run.ended or run.cluster in unheard:
            settled.append(run)
    return settled


def _write(
    grid: Grid, sweep: Sweep, shares: list[Share], adapted: dict[str, dict[str, PlannedRun]], result: Submitted
) -> None:
    """The sweep's folder here: the grid, the code, and each run as its cluster will have it."""
    code = snapshot.take(grid.job, grid.methods)
    remote = [share for share in shares if share.cluster.is_remote]
    if any(share.wanted for share in remote):
        snapshot.keep(code, sweep.code)
    runs.write_grid(sweep, grid)
    folders = {runs.hash_of(run.name): run.name for run in sweep.runs()}
    for share in shares:
        result.there += [run.run for run in share.there]
        for run in share.there:
            result.left.setdefault(run.state, []).append(run.run)
    for share in remote:
        planned = [adapted[share.cluster.name][run.hash] for run in share.wanted]
        share.wanted = [dataclasses.replace(run, name=folders.get(run.hash, run.name)) for run in planned]
        new = {run.name: run for run in share.wanted if run.hash not in folders}
        unsent = {run.name: run for run in share.wanted if run.hash in folders}
        runs.write_runs(sweep, new, code.hash, share.cluster.name)
        runs.rewrite_runs(sweep, unsent, code.hash, share.cluster.name)
        result.new += new
        result.there += unsent
        if share.wanted:
            answers.expect(sweep, share.cluster.name)


def _send(grid: Grid, sweep: Sweep, shares: list[Share], fleet: Fleet, notify: Notify, result: Submitted) -> None:
    """Copies to each cluster what it is to get, and submits it there; side by side."""
    parts = {share.cluster.name: share for share in shares if share.cluster.is_remote and share.wanted}

    def send(remote: Remote) -> dict[str, Any]:
        names = [run.name for run in parts[remote.name].wanted]
        codes = {runs.read_config(sweep.run(name)).origin.code for name in names}
        notify(f"{remote.name}: copying {len(names):,} runs and their code")
        files = ["sweep.yaml", *(f"code/{code}" for code in codes), *(f"{name}/config.yaml" for name in names)]
        folder = ship(remote, sweep, files)
        notify(f"{remote.name}: submitting")
        packing = {"runs_per_job": grid.file.runs_per_job, "at_once": grid.file.at_once}
        return remote.call("submit", sweep=sweep.name, arriving=folder, runs=names, **packing, **wanted_of(remote))

    failed = []
    for name, reply in fleet.each(parts, send).items():
        if isinstance(reply, ClusterError):
            failed.append(str(reply))
            continue
        answers.keep(sweep, name, Answer(time.time(), answers.rows(reply["runs"], name)))
        result.submitted += reply["submitted"]
        result.job_ids += reply["jobs"]
        if len(parts) > 1:
            result.notes.append(f"{len(reply['submitted']):,} of them on {name}")
    for share in shares:
        if share.there and len(shares) > 1:
            result.notes.append(f"{len(share.there):,} live on {share.cluster.name}")
    if failed:
        raise ClusterError(f"{'; '.join(failed)}; to complete it, submit again")


def _add(result: Submitted, more: Submitted) -> None:
    result.new += more.new
    result.there += more.there
    result.submitted += more.submitted
    result.job_ids += more.job_ids
    result.notes += more.notes
