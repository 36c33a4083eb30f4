"""The agent: a program on a login node. It does what commands on the user's machine ask of that cluster.

`python -m mtlcluster.remote.agent ROOT VERB` reads one JSON object and prints one. It works on the runs in ROOT/runs
with the same functions as the verbs on that machine.

    look    {"sweep"}: "" for all                       -> {"version", "runs", "job_files": {sweep: …},
                                                            "defaults": {sweep: version}, "searched": [sweep, …]}
            and {"files"}: names of files of a run      -> the same and {"files": {sweep: {run: sizes and times}}}
    prepare {"sweep", "job", "paths"}                   -> the same and {"missing", "slurm"}
    submit  {"sweep", "cluster", "options", "arriving", "code", "names", "runs_per_job", "at_once"}
            submits the confirming runs of the search, too
                                                        -> {"jobs", "submitted", "unreadable", "runs"}
    cancel  {"sweep", "names"}                          -> {"runs"}
    retry   {"sweep", "cluster", "options", "arriving", "code", "fresh", "names"}
            code: of a restart, else ""
            fresh: code for runs that have saved nothing yet, or ""
                                                        -> {"jobs", "submitted", "unreadable", "runs"}

`runs` are the runs of the sweep as `status` sees them. A request that fails gets {"error": text, "mistake": whether it
is the user's}. Copied files arrive in a hidden folder, and the agent renames them into the sweep. So runs and code
appear whole.
"""

import atexit
import gc
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlcluster.errors import SchedulerError, UserError
from mtlcluster.launch.run_status import observe
from mtlcluster.sweep.file_sizes import sizes_and_times
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.folder import Sweep, sweeps
from mtlcluster.sweep.locks import locked
from mtlcluster.sweep.names import RUN, SWEEP, fits
from mtlcluster.sweep.yaml_fields import defaults_of, job_of

if TYPE_CHECKING:  # imported where they are needed: `look`, the most frequent verb, does without
    from mtlcluster.config.cluster import Cluster
    from mtlcluster.launch.hand_over import Submitted

Request = dict[str, Any]
Reply = dict[str, Any]


def look(runs_folder: Path, request: Request) -> Reply:
    """Tells how the runs of a sweep, or of all, are."""
    from mtlcluster.launch.code.snapshot import library_hash

    sweep = Sweep(runs_folder / request["sweep"])
    chosen = sweeps(runs_folder) if not request["sweep"] else [sweep] if sweep.folder.is_dir() else []
    chosen = [sweep for sweep in chosen if fits(SWEEP, sweep.name)]
    # A sweep of the same name may belong to another project: the job file tells them apart.
    jobs = {sweep.name: job_of(sweep) for sweep in chosen}
    reply = {"version": library_hash(), "runs": _runs(*chosen), "job_files": jobs}
    reply["defaults"] = {sweep.name: defaults_of(sweep) for sweep in chosen if sweep.grid.exists()}
    reply["searched"] = [sweep.name for sweep in chosen if sweep.trials.exists()]
    if names := request.get("files"):
        reply["files"] = {sweep.name: sizes_and_times(sweep, names) for sweep in chosen}
    return reply


def prepare(runs_folder: Path, request: Request) -> Reply:
    """Makes the sweep's folder, and tells what would prevent a submission: no room, missing data, no Slurm."""
    from mtlcluster.launch import sweep_file
    from mtlcluster.launch.executors import slurm

    sweep = Sweep(runs_folder / request["sweep"])
    sweep_file.refuse_other_job(sweep, request["job"])
    sweep.folder.mkdir(parents=True, exist_ok=True)
    probe = sweep.folder / f".probe-{os.getpid()}"
    replace_text(probe, "room?")
    probe.unlink()
    missing = [path for path in request["paths"] if not Path(os.path.expanduser(os.path.expandvars(path))).exists()]  # noqa: PTH111
    return look(runs_folder, request) | {"missing": missing, "slurm": slurm.answers()}


def submit(runs_folder: Path, request: Request) -> Reply:
    """Submits runs that have just arrived."""
    from mtlcluster.launch.packing import Packing
    from mtlcluster.launch.submit import submit_runs

    sweep = Sweep(runs_folder / request["sweep"])
    with locked(sweep.lock, _tell):
        _move_in(sweep, request, request["names"])
        packing = Packing(request["runs_per_job"], request["at_once"])
        found = submit_runs(sweep, request["names"], _cluster(sweep, request), packing)
    return _submitted(sweep, found)


def cancel(runs_folder: Path, request: Request) -> Reply:
    """Stops runs that have not ended."""
    from mtlcluster.launch import cancel
    from mtlcluster.sweep.submissions import present_names

    sweep = Sweep(runs_folder / request["sweep"])
    names = present_names(sweep.folder, request["names"])
    cancel.cancel(sweep, [run for run in observe([sweep], names) if not run.ended], _tell)
    return {"runs": _runs(sweep)}


def retry(runs_folder: Path, request: Request) -> Reply:
    """Submits runs once more."""
    from mtlcluster.launch.hand_over import writing
    from mtlcluster.launch.retry import read_configs, resubmit_runs

    sweep = Sweep(runs_folder / request["sweep"])
    with locked(sweep.lock, _tell):
        _move_in(sweep, request, [])
        cluster = _cluster(sweep, request)
    with writing(sweep, _tell):
        configs, unreadable = read_configs(sweep, request["names"])
        code, restart = request["code"] or request.get("fresh", ""), bool(request["code"])
        found = resubmit_runs(sweep, configs, dict.fromkeys(configs, cluster), code, restart)
        found.unreadable = unreadable
    return _submitted(sweep, found)


def _move_in(sweep: Sweep, request: Request, names: list[str]) -> None:
    """Moves the copied files into the sweep, and removes the rest of the hidden folder.

    Code and runs are moved unless they are there; damaged code is repaired. Grid and trials replace the former ones.
    The configuration of a run without a job is replaced: its resources or its code may have changed since.
    """
    from mtlcluster.launch.code import snapshot
    from mtlcluster.launch.run_folders import without_job
    from mtlcluster.sweep import submissions

    arrived = sweep.folder / request["arriving"]
    grid, trials = arrived / "sweep.yaml", arrived / "trials.json"
    sweep.code.mkdir(exist_ok=True)
    for code in (arrived / "code").glob("*"):
        if (sweep.code / code.name).exists():
            snapshot.mend(sweep.code / code.name, snapshot.read(code))
        else:
            code.rename(sweep.code / code.name)
    waiting = without_job(sweep, submissions.read(sweep.submissions))
    for run in map(sweep.run, names):
        config = arrived / run.name / "config.yaml"
        if config.exists() and not run.folder.exists():
            config.parent.rename(run.folder)
        elif config.exists() and run.name in waiting and not run.status.exists():
            config.rename(run.config)
    if grid.exists():
        grid.rename(sweep.grid)
    if trials.exists():
        trials.rename(sweep.trials)
    shutil.rmtree(arrived, ignore_errors=True)


def _cluster(sweep: Sweep, request: Request) -> "Cluster":
    """This cluster as its user describes it. The description is kept with the sweep, for a `retry` on this machine."""
    from mtlcluster.config import submitted_here
    from mtlcluster.config.cluster import find_cluster
    from mtlcluster.config.cluster_files import FILE_NAME
    from mtlcluster.config.yaml_file import dump

    submitted_here.remember(sweep.folder)
    replace_text(sweep.folder / FILE_NAME, dump({request["cluster"]: request["options"]}))
    return find_cluster(request["cluster"], sweep.folder)


def _submitted(sweep: Sweep, found: "Submitted") -> Reply:
    reply = {"jobs": found.job_ids, "submitted": found.submitted, "unreadable": found.unreadable}
    return reply | {"runs": _runs(sweep)}


def _runs(*chosen: Sweep) -> list[dict[str, Any]]:
    """The runs as they are now. Folders with names that no grid gives are not reported."""
    return [vars(run) for run in observe(chosen) if fits(RUN, run.run)]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


VERBS: dict[str, Callable[[Path, Request], Reply]] = {
    verb.__name__: verb for verb in (look, prepare, submit, cancel, retry)
}


def main() -> None:
    atexit.register(gc.freeze)  # for a fast exit, as in the command line
    try:
        reply = VERBS[sys.argv[2]](Path(sys.argv[1], "runs"), json.load(sys.stdin))
    except (UserError, SchedulerError) as error:
        reply = {"error": str(error), "mistake": isinstance(error, UserError)}
    except OSError as error:
        reply = {"error": f"{error.filename or 'disk'}: {error.strerror}", "mistake": False}
    sys.stdout.write(json.dumps(reply))  # json.dump would take ten times as long


if __name__ == "__main__":
    main()
