"""Gives runs their jobs, and keeps submissions.jsonl: one line before and one after each submission.

All of it happens with the sweep locked. If `submit` is killed at any point, the next one finds what was begun.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid
from mtlcluster.errors import SchedulerError, UserError
from mtlcluster.launch.executors import executor_on
from mtlcluster.launch.executors.base import Unsettled
from mtlcluster.launch.packing import Array, Packing, Unit
from mtlcluster.progress import Say
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import make_folder
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.locks import locked

INTERRUPTED = "submit was killed before it was completed"


@dataclass
class Submitted:
    """The result of a submission. Runs are named as their folders.

    Attributes:
        sweep: The sweep.
        cluster: The names of the clusters that got jobs.
        new: Runs whose folders were made now.
        there: Runs of the grid that had a folder before.
        submitted: Runs that got a job now: the new ones, and others that had none.
        left: Runs that were there and were left alone, by their state.
        job_ids: The jobs.
        notes: Lines for the user.
        unreadable: Runs that were left out, and why; the reason names the file.
    """

    sweep: Sweep
    cluster: str
    new: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    job_ids: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def sweep_of(grid: Grid, runs_folder: Path) -> Sweep:
    """The sweep of a grid.

    A relative folder counts from the working folder as the kernel names it, without links, as it does for sbatch: jobs
    in the queue are found by this path, however the user came here. An absolute folder stays as it is, because compute
    nodes may know only the link.
    """
    return Sweep(runs_folder.absolute() / grid.file.name)


@contextmanager
def writing(sweep: Sweep, say: Say) -> Iterator[None]:
    """Locks a sweep to write into its folder. An error of the disk becomes a UserError that names the folder."""
    try:
        with locked(sweep.lock, say):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{sweep.folder}: the disk is full; make room and submit again") from None
        where = error.filename or sweep.folder
        raise UserError(f"{where}: {error.strerror or error}; the sweep's folder can't be written") from None


def close_interrupted(sweep: Sweep) -> None:
    """Ends the submissions of a `submit` that was killed, and cancels the jobs that they have left in a queue.

    If runs of such a submission have begun, it was accepted, and only the line that said so was lost.
    """
    for submission in submissions.read(sweep.submissions):
        if submission.told_by_runs:
            submissions.append(sweep.submissions, "end", submission.id, jobs=submission.job_ids)
        elif not submission.ended:
            cancelled = executor_on(submission.cluster).cancel_orphans(sweep, submission.id)
            note = f"; cancelled {', '.join(cancelled)}" if cancelled else ""
            submissions.append(sweep.submissions, "end", submission.id, error=INTERRUPTED + note)


def hand_over(sweep: Sweep, cluster: Cluster, units: Sequence[Unit], packing: Packing, result: Submitted) -> None:
    """Submits runs to a cluster, and adds to `result` what was submitted.

    Raises:
        SchedulerError: The cluster's executor refused; what was submitted before stays submitted.
    """
    if not units:
        return
    executor = executor_on(cluster.name)
    result.notes += executor.remarks(units, cluster)
    for array in executor.arrays(units, packing, cluster):
        submission = _begin(sweep, cluster, array)
        try:
            jobs = executor.submit(sweep, submission, array, cluster, result.notes.append)
        except Unsettled:
            raise
        except SchedulerError as error:
            submissions.append(sweep.submissions, "end", submission, error=str(error))
            before = len(result.submitted)
            raise SchedulerError(f"{error} ({before} runs were submitted before)" if before else str(error)) from None
        submissions.append(sweep.submissions, "end", submission, jobs=jobs)
        result.job_ids += jobs
        result.submitted += [run for job in array.jobs for run in job]


def _begin(sweep: Sweep, cluster: Cluster, array: Array) -> str:
    """Notes that an array is about to be submitted. Returns the id of the submission."""
    submission = submission_id(submissions.next_number(sweep.submissions))
    folder = sweep.submission_folder(submission)
    for one in (folder.parent, folder):
        make_folder(one)
    details: dict[str, Any] = {"cluster": cluster.name, "code": array.code, "jobs": array.jobs}
    submissions.append(sweep.submissions, "begin", submission, **details)
    return submission


def submission_id(number: int) -> str:
    """The id of a sweep's submission with this number, from 1."""
    return f"{number:04d}"
