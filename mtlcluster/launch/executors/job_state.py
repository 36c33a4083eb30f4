"""What became of jobs: asks Slurm (with or without accounting); for local ones looks at locks and processes."""

import functools
import os
import re
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtlcluster import _entry
from mtlcluster.errors import SchedulerError
from mtlcluster.processes.local_job_id import state_and_start_time, this_boot
from mtlcluster.processes.slurm_commands import run_slurm
from mtlcluster.sweep.files import is_locked

MARK = "mtlcluster "  # how the comment of a job begins; its submission and its sweep's folder follow
SILENCE = 120.0  # seconds without a word after which a worker that can't be looked at is dead
QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}


@dataclass(frozen=True)
class Answer:
    """What the scheduler says of a job: it waits, it runs, it is no more, or nobody could be asked.

    said: in the scheduler's words, such as `PENDING (Priority)`, `RUNNING`, `CANCELLED`, `TIMEOUT`; may be empty.
    """

    state: Literal["queued", "running", "gone", "unknown"]
    said: str = ""


@dataclass(frozen=True)
class Traces:
    """What a job leaves in the sweep's folder. log: of a local worker, locked while it lives. heard: its last word."""

    log: Path
    heard: float


def ask(jobs: Mapping[str, Traces], owners: Collection[int] = ()) -> dict[str, Answer]:
    """The answer for each job. Costs one squeue for all jobs of Slurm, and one sacct where squeue has forgotten some.

    owners: the user ids that may have submitted them, beside the caller's own.
    """
    answers = {job: _ask_for_local(job, traces) for job, traces in jobs.items() if is_local(job)}
    if slurm := jobs.keys() - answers.keys():
        answers |= _ask_slurm({job: jobs[job] for job in slurm}, {os.getuid(), *owners})
    return answers


def is_local(job_id: str) -> bool:
    return job_id.startswith("local:")


def _ask_for_local(job_id: str, traces: Traces) -> Answer:
    """A worker lives if its log is locked, on whichever machine, under whichever name and in whichever container that
    may be; on a file system that knows no locks, if its process is there. Of another boot's nothing but its word can be
    had then: it may be another machine's.
    """
    if is_locked(traces.log):
        return Answer("running")
    try:
        _, boot, pid, start_time = job_id.split(":")
    except ValueError:
        return Answer("unknown", f"'{job_id}' is no job id")
    if boot not in (this_boot(), os.uname().nodename):  # older versions noted the host's name
        if time.time() - traces.heard < SILENCE:
            return Answer("unknown", "its worker is on another machine, or on this one before it was started anew")
        return Answer("gone")
    try:
        state, started = state_and_start_time(pid)
    except OSError:
        return Answer("gone")
    lives = started == start_time and state not in "ZX" and not _is_of_original(_folder_of_worker(pid), traces)
    return Answer("running") if lives else Answer("gone")


def _folder_of_worker(pid: str) -> str:
    """The sweep's folder with which a worker was started; '' where that can't be seen."""
    with suppress(OSError, IndexError):
        command = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "surrogateescape").split("\0")
        return _entry.own_arguments("worker", command)[0]
    return ""


@functools.cache
def _number_of(folder: str) -> int | None:
    """By which one tells folders apart, however they are reached; None where there is none (now, for it was moved)."""
    try:
        return Path(folder).stat().st_ino if folder else None
    except (OSError, ValueError):
        return None


def _is_of_original(folder: str, traces: Traces) -> bool:
    """Whether a job is of `folder`, and the sweep that names it a copy: what becomes of that job is not the copy's."""
    here, there = _number_of(str(traces.log.parents[2])), _number_of(folder)
    return here is not None and there is not None and here != there


def kill_local(job_id: str) -> None:
    """Ends a worker of this boot. Its training processes notice, save and end."""
    _, boot, pid, start_time = job_id.split(":")
    with suppress(OSError):
        if boot == this_boot() and state_and_start_time(pid)[1] == start_time:
            os.kill(int(pid), signal.SIGKILL)
            for _ in range(100):  # until it is gone, or a second
                if state_and_start_time(pid)[0] in "ZX":
                    break
                time.sleep(0.01)


def _ask_slurm(jobs: Mapping[str, Traces], users: set[int]) -> dict[str, Answer]:
    try:
        queue = run_slurm(
            "squeue", "--noheader", "--array", "--states=all", f"--user={_joined(users)}", "--format=%i|%T|%r|%k"
        )
    except SchedulerError as error:
        return dict.fromkeys(jobs, Answer("unknown", str(error)))
    answers = {}
    for line in queue.splitlines():
        job, state, reason, comment = (*line.split("|", 3), "", "", "")[:4]
        if job in jobs and state:  # a site's own squeue may say more
            of_original = comment.startswith(MARK) and _is_of_original(comment.split(" ", 2)[-1], jobs[job])
            answers[job] = Answer("gone") if of_original else _answer(state, reason)
    if forgotten := jobs.keys() - answers.keys():
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


def _joined(values: Iterable[object]) -> str:
    return ",".join(sorted({str(value) for value in values}))
