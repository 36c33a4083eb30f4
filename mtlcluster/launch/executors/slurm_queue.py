"""Asks Slurm about jobs, by squeue and (where there is accounting) sacct, and cancels them."""

import os
import re
from collections.abc import Collection, Iterable, Mapping

from mtlcluster.errors import SchedulerError
from mtlcluster.launch.executors.base import JobState, Traces
from mtlcluster.processes.slurm_commands import run_slurm
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep

MARK = "mtlcluster "  # how the comment of a job begins; its submission and its sweep's folder follow
QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}


def mark(sweep: Sweep, submission: str) -> str:
    """The comment of a submission's jobs. The jobs of a killed `submit` are found by it."""
    return f"{MARK}{submission} {sweep.folder}"


def states(jobs: Mapping[str, Traces], owners: Collection[int]) -> dict[str, JobState]:
    """The state of each job: by one squeue for all, and by one sacct for those that squeue has forgotten.

    owners: the ids of the users that may have submitted them, beside the caller.
    """
    users = _joined({os.getuid(), *owners})
    try:
        queue = run_slurm("squeue", "--noheader", "--array", "--states=all", f"--user={users}", "--format=%i|%T|%r|%k")
    except SchedulerError as error:
        return dict.fromkeys(jobs, JobState("unknown", str(error)))
    found = {}
    for line in queue.splitlines():
        job, state, reason, comment = (*line.split("|", 3), "", "", "")[:4]
        if job in jobs and state:  # a site's own squeue may print other lines
            copied = comment.startswith(MARK) and jobs[job].copied_from(comment.split(" ", 2)[-1])
            found[job] = JobState("gone") if copied else _state(state, reason)
    if forgotten := jobs.keys() - found.keys():
        found |= dict.fromkeys(forgotten, JobState("gone")) | _ask_accounting(forgotten)
    return found


def _state(state: str, reason: str) -> JobState:
    if state in QUEUED:
        return JobState("queued", f"{state} ({reason})" if reason not in ("", "None") else state)
    return JobState("running" if state in RUNNING else "gone", state)


def _ask_accounting(job_ids: set[str]) -> dict[str, JobState]:
    """The ends of jobs that are no longer in the queue. Empty if Slurm has no accounting."""
    arrays = _joined(job.partition("_")[0] for job in job_ids)
    try:
        table = run_slurm(
            "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={arrays}", "--format=JobID,State"
        )
    except SchedulerError:
        return {}
    rows = (line.partition("|") for line in table.splitlines())
    # "CANCELLED by 1000": the first word is the state.
    ended = {job: state.split()[0] for jobs, _, state in rows if state for job in _tasks(jobs)}
    # An array that never began may have only one row, that of the array itself.
    found = {job: ended.get(job) or ended.get(job.partition("_")[0]) for job in job_ids}
    return {job: JobState("gone", said) for job, said in found.items() if said}


def _tasks(job_id: str) -> list[str]:
    """The jobs that an id printed by sacct means: `7_[0-2,5%4]` are the four tasks of array 7 that never began."""
    array, bracket, ranges = job_id.partition("_[")
    if not bracket:
        return [job_id]
    parts = re.findall(r"(\d+)(?:-(\d+))?", ranges.partition("%")[0])
    return [f"{array}_{task}" for first, last in parts for task in range(int(first), int(last or first) + 1)]


def dependency(sweep: Sweep, runs: Collection[str]) -> str:
    """sbatch's --dependency on the end of the jobs of these runs; "" if none of the jobs is in the queue.

    Slurm refuses a dependency on a job that it has forgotten. So jobs that are gone are left out.
    """
    last = submissions.latest(submissions.read(sweep.submissions))
    jobs = {last[run][1]: last[run][0] for run in runs if run in last and is_of_slurm(last[run][1])}
    if not jobs:
        return ""
    found = states({job: Traces(sweep.worker_log(line.id), line.time) for job, line in jobs.items()}, ())
    alive = {job for job in jobs if found[job].state != "gone"}
    whole = {job.partition("_")[0] for job in alive if jobs.keys() >= {*jobs[job].job_ids}}
    wanted = {job.partition("_")[0] if job.partition("_")[0] in whole else job for job in alive}
    return ":".join(["afterany", *sorted(wanted)]) if wanted else ""


def is_of_slurm(job_id: str) -> bool:
    """True for an id of Slurm, such as 7 or 7_2."""
    return job_id[:1].isdigit()


def with_comment(comment: str, *options: str) -> set[str]:
    """The jobs in the queue with this comment; an array counts as one job. Raises SchedulerError.

    options: more of squeue's options.
    """
    queue = run_slurm("squeue", "--noheader", f"--user={os.getuid()}", *options, "--format=%F|%k")
    found = (line.partition("|") for line in queue.splitlines())
    return {job for job, _, said in found if said == comment}


def scancel(job_ids: Iterable[str]) -> None:
    """Cancels jobs. One that has ended already is no error. Raises SchedulerError."""
    if ids := sorted(job_ids):
        run_slurm("scancel", "--quiet", *ids)


def _joined(values: Iterable[object]) -> str:
    return ",".join(sorted({str(value) for value in values}))
