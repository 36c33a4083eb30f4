"""Steering runs that were submitted: which ones are meant, stopping them, and which can be started once more."""

import os
import time
from collections.abc import Callable, Iterable, Sequence

from mtlcluster.errors import UserError
from mtlcluster.launch.scheduler import is_local, kill_local, scancel
from mtlcluster.launch.status import TO_RETRY, RunStatus, observe
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.folder import Sweep, meant_by

GRACE = 10.0  # seconds that running runs get to save a checkpoint before their job is cancelled
LISTED = 10


def select(sweep: str, names: list[str], parts: Iterable[str]) -> list[str]:
    """Those of a sweep's run names that `parts` mean: each a name, one without its hash, or a part that only one has.

    Raises UserError for a part that no name has or that several have.
    """
    return list(dict.fromkeys(_one(sweep, names, part) for part in parts))


def _one(sweep: str, names: list[str], part: str) -> str:
    found = meant_by(part, names)
    if not found:
        raise UserError(f"no run of {sweep} has '{part}' in its name:{listing(names)}")
    if len(found) > 1:
        raise UserError(f"'{part}' could mean {len(found)} runs of {sweep}:{listing(found)}")
    return found[0]


def listing(names: list[str]) -> str:
    """Names, one a line, each on its own; of very many the first."""
    more = [f"… and {len(names) - LISTED:,} more"] if len(names) > LISTED else []
    return "".join(f"\n  {name}" for name in [*names[:LISTED], *more])


def meant(sweep: str, runs: list[RunStatus], parts: Sequence[str]) -> list[RunStatus]:
    """The runs that `parts` mean; all where there are none. Raises UserError, see `select`."""
    names = select(sweep, [run.run for run in runs], parts)
    return [run for run in runs if run.run in names] if parts else runs


def cancel(sweep: Sweep, runs: list[RunStatus], notify: Callable[[str], object]) -> list[RunStatus]:
    """Asks the workers of `runs` to stop, and ends jobs that have nothing else to do.

    A job that waits goes at once. One that runs gets GRACE seconds to save and end by itself; then it is ended if its
    worker has not written a word since, or if this was asked before: a worker that is well ends by itself in the end,
    see attempt.py. Returns how `runs` are then. Raises SchedulerError; the workers have been asked even then.
    """
    asked = f"{time.strftime('%Y-%m-%d %H:%M:%S')} by user {os.getuid()}\n"
    again = {run.job_id for run in runs if run.cancelling} - {run.job_id for run in runs if not run.cancelling}
    for run in map(sweep.run, [run.run for run in runs]):
        make_folder(run.folder)  # it is there; a link to another folder is refused
        if not run.cancel.exists():
            replace_text(run.cancel, asked)
    jobs = _needless_jobs(sweep, runs)
    _end(job for job, state in jobs.items() if state != "running" and not is_local(job))
    before = {run.run: run.heartbeat for run in runs}
    names = {run.run for run in runs}
    deadline = time.monotonic() + GRACE
    if saving := [run for run in runs if run.state == "running"]:
        notify(f"waiting until running runs have saved a checkpoint, at most {GRACE:.0f} seconds")
    while (now := observe([sweep], names)) and saving and time.monotonic() < deadline:
        saving = [run for run in now if run.state == "running"]
        time.sleep(0.5)
    silent = {run.job_id for run in saving} - {run.job_id for run in saving if run.heartbeat != before[run.run]}
    if overdue := (silent | again) & {run.job_id for run in saving} & jobs.keys():
        _end(overdue)
        now = observe([sweep], names)
    return now


def _end(jobs: Iterable[str]) -> None:
    """Takes jobs out of Slurm, and kills local workers. Raises SchedulerError."""
    jobs = set(jobs)
    local = {job for job in jobs if is_local(job)}
    for job in local:
        kill_local(job)
    scancel(jobs - local)


def _needless_jobs(sweep: Sweep, cancelled: list[RunStatus]) -> dict[str, str]:
    """The jobs of which every run has ended or is in `cancelled`, each with `running` or `queued`."""
    jobs: dict[str, list[RunStatus]] = {}
    for run in observe([sweep]):
        jobs.setdefault(run.job_id, []).append(run)
    names = {run.run for run in cancelled}
    mine = {run.job_id for run in cancelled if run.job_id}
    return {
        job: "running" if any(run.state == "running" for run in jobs[job]) else "queued"
        for job in mine
        if all(run.ended or run.run in names for run in jobs[job])
    }


def to_retry(sweep: str, runs: list[RunStatus], parts: Sequence[str], restart: bool) -> list[RunStatus]:
    """Those of the runs that `parts` mean that failed, were lost or cancelled; without parts, all that did.

    Raises UserError for a named run that has no need of it, unless it is done and to be trained from scratch.
    """
    admitted = (*TO_RETRY, "done") if restart and parts else TO_RETRY
    chosen = meant(sweep, runs, parts)
    refused = [run for run in chosen if run.state not in admitted]
    if parts and refused:
        reasons = {"done": "is done; --restart trains it from scratch"}
        why = [f"{run.run} {reasons.get(run.state, f'is {run.state}; cancel it first')}" for run in refused]
        raise UserError(f"not to be retried:{listing(why)}")
    return [run for run in chosen if run.state in admitted]
