"""`cancel`: stops runs, and ends jobs that have no other runs."""

import os
import time

from mtlcluster.launch import executors
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.progress import Say
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.folder import Sweep

GRACE = 10.0  # seconds that running runs get to save a checkpoint before their job is cancelled


def cancel(sweep: Sweep, runs: list[RunStatus], say: Say) -> list[RunStatus]:
    """Asks the workers of `runs` to stop, and ends jobs that have no other runs.

    A job that waits in a queue is cancelled at once. One that runs gets GRACE seconds to save and to end by itself.
    After that it is ended if its worker has not written anything since, or if the user had cancelled it before. (A
    healthy worker stops its runs in any case, see worker/attempt.py.)

    Returns:
        The runs as they are then.

    Raises:
        SchedulerError: A job could not be cancelled. The workers have been asked to stop all the same.
    """
    asked = f"{time.strftime('%Y-%m-%d %H:%M:%S')} by user {os.getuid()}\n"
    again = {run.job_id for run in runs if run.cancelling} - {run.job_id for run in runs if not run.cancelling}
    names = {run.run for run in runs}
    _ask(sweep, names, asked)
    if chosen := submissions.present_names(sweep.folder, names) - names:  # their settings were chosen right now
        _ask(sweep, chosen, asked)
        names |= chosen
    jobs = _needless_jobs(sweep, names, {run.job_id for run in runs if run.job_id})
    executors.cancel(job for job, state in jobs.items() if state != "running" and executors.executor_of(job).has_queue)
    before = {run.run: run.heartbeat for run in runs}
    deadline = time.monotonic() + GRACE
    if saving := [run for run in runs if run.state == "running"]:
        say(f"waiting until running runs have saved a checkpoint, at most {GRACE:.0f} seconds")
    while (now := observe([sweep], names)) and saving and time.monotonic() < deadline:
        saving = [run for run in now if run.state == "running"]
        time.sleep(0.5)
    silent = {run.job_id for run in saving} - {run.job_id for run in saving if run.heartbeat != before.get(run.run)}
    if overdue := (silent | again) & {run.job_id for run in saving} & jobs.keys():
        executors.cancel(overdue)
        now = observe([sweep], names)
    return now


def _ask(sweep: Sweep, names: set[str], words: str) -> None:
    for run in map(sweep.run, names):
        if run.folder.parent != sweep.folder:
            make_folder(run.folder.parent)  # of placeholders
        make_folder(run.folder)  # only a placeholder has none yet; this refuses a link to another folder
        if not run.cancel.exists():
            replace_text(run.cancel, words)


def _needless_jobs(sweep: Sweep, cancelled: set[str], mine: set[str]) -> dict[str, str]:
    """The jobs among `mine` whose runs have all ended or are cancelled, each with its state, `running` or `queued`."""
    jobs: dict[str, list[RunStatus]] = {}
    for run in observe([sweep]):
        jobs.setdefault(run.job_id, []).append(run)
    return {
        job: "running" if any(run.state == "running" for run in jobs.get(job, [])) else "queued"
        for job in mine
        if all(run.ended or run.run in cancelled for run in jobs.get(job, []))
    }
