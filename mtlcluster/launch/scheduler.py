"""What became of jobs: asks Slurm (with or without accounting), or this machine's process table for local ones."""

import os
import re
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtlcluster.errors import SchedulerError

PATIENCE = 10.0             # seconds; a controller that hangs must not hang `status`
QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}


@dataclass(frozen=True)
class Answer:
    """What the scheduler says of a job: it waits, it runs, it is no more, or nobody could be asked.

    said: in the scheduler's words, such as `PENDING (Priority)`, `RUNNING`, `CANCELLED`, `TIMEOUT`; may be empty.
    """

    state: Literal["queued", "running", "gone", "unknown"]
    said: str = ""


def ask(job_ids: Collection[str], owners: Collection[int] = ()) -> dict[str, Answer]:
    """The answer for each job. Costs one squeue for all jobs of Slurm, and one sacct where squeue has forgotten some.

    owners: the user ids that may have submitted them, beside the caller's own.
    """
    local = {job for job in job_ids if is_local(job)}
    answers = {job: _ask_this_machine(job) for job in local}
    if slurm := set(job_ids) - local:
        answers |= _ask_slurm(slurm, {os.getuid(), *owners})
    return answers


def is_local(job_id: str) -> bool:
    return job_id.startswith("local:")


def local_job_id(pid: int) -> str:
    """`local:<host>:<pid>:<start time>`; the start time tells apart who had that pid."""
    return f"local:{os.uname().nodename}:{pid}:{_process(pid)[1]}"


def _ask_this_machine(job_id: str) -> Answer:
    """`local:<host>:<pid>:<starttime>` is alive if that process is still the one that started then (clock ticks)."""
    try:
        _, host, pid, start_time = job_id.split(":")
    except ValueError:
        return Answer("unknown", f"'{job_id}' is no job id")
    if host != os.uname().nodename:
        return Answer("unknown", f"a process on {host}")
    try:
        state, started = _process(pid)
    except OSError:
        return Answer("gone")
    return Answer("running") if started == start_time and state not in "ZX" else Answer("gone")


def _process(pid: int | str) -> tuple[str, str]:
    """A process's state and start time, in clock ticks since boot. Raises OSError where there is none."""
    # The name, in parentheses, may hold blanks: what follows it are fields 3 (state) to 22 (start time) and more.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]


def _ask_slurm(job_ids: set[str], users: set[int]) -> dict[str, Answer]:
    try:
        queue = run_slurm(
            "squeue", "--noheader", "--array", "--states=all", f"--user={_joined(users)}", "--format=%i|%T|%r"
        )
    except SchedulerError as error:
        return dict.fromkeys(job_ids, Answer("unknown", str(error)))
    answers = {}
    for line in queue.splitlines():
        job, state, reason = line.split("|", 2)
        if job in job_ids:
            answers[job] = _answer(state, reason)
    if forgotten := job_ids - answers.keys():
        answers |= dict.fromkeys(forgotten, Answer("gone")) | _ask_accounting(forgotten)
    return answers


def _answer(state: str, reason: str) -> Answer:
    if state in QUEUED:
        return Answer("queued", f"{state} ({reason})" if reason not in ("", "None") else state)
    return Answer("running" if state in RUNNING else "gone", state)


def _ask_accounting(job_ids: set[str]) -> dict[str, Answer]:
    """How jobs ended that are no more in the queue; nothing where there is no accounting."""
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
    # Of an array that never began there may be but one row, of the array itself.
    found = {job: ended.get(job) or ended.get(job.partition("_")[0]) for job in job_ids}
    return {job: Answer("gone", said) for job, said in found.items() if said}


def _tasks(job_id: str) -> list[str]:
    """The jobs that an id of sacct's means: `7_[0-2,5%4]` are the four tasks of array 7 that never began."""
    array, bracket, ranges = job_id.partition("_[")
    if not bracket:
        return [job_id]
    parts = re.findall(r"(\d+)(?:-(\d+))?", ranges.partition("%")[0])
    return [f"{array}_{task}" for first, last in parts for task in range(int(first), int(last or first) + 1)]


def scancel(job_ids: Iterable[str]) -> None:
    """Takes jobs out of Slurm. One that has ended by itself is no error. Raises SchedulerError."""
    if ids := sorted(job_ids):
        run_slurm("scancel", "--quiet", *ids)


def run_slurm(*command: str) -> str:
    """The output of one of Slurm's commands. Raises SchedulerError where it is missing, refuses, or takes too long."""
    # The user's SQUEUE_PARTITION and the like would hide jobs from us.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SACCT_"))}
    environment["SLURM_BITSTR_LEN"] = "0"       # or long lists of array tasks end in "..."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: not found on this machine") from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]} did not answer within {PATIENCE:.0f} seconds") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise SchedulerError(f"{' '.join(command)[:200]}: {said}")
    return done.stdout


def _joined(values: Iterable[object]) -> str:
    return ",".join(sorted({str(value) for value in values}))
