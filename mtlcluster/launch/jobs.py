"""Which job looks after a run: the one that submissions.jsonl gave it last, unless the run's own status.json tells of a
later one, whose lines there were torn or lost.
"""

from typing import NamedTuple

from mtlcluster.launch.executors.job_state import is_local
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.names import JOB, fits
from mtlcluster.sweep.status import Status
from mtlcluster.sweep.yaml_fields import cluster_of


class Job(NamedTuple):
    """submission: the one that was accepted; "" where none was. id: "" where that is not known."""

    submission: str = ""
    cluster: str = ""
    id: str = ""
    time: float = 0.0  # when it was submitted, where that is known


def given(found: list[submissions.Submission]) -> dict[str, Job]:
    """By run, as submissions.jsonl says."""
    last = submissions.latest(found)
    return {run: Job(given.id, given.cluster, job, given.time) for run, (given, job) in last.items()}


def told_by(status: Status, run: Run, sweep: Sweep, submission: str) -> Job | None:
    """The job that the run's status tells of, where it came later than `submission`. None for what another cluster's
    worker wrote: that was brought home, and has its submissions over there.
    """
    if submissions.number(status.submission) <= submissions.number(submission) or not fits(JOB, status.job_id):
        return None
    cluster = cluster_of(run)
    if (sweep.clusters / f"{cluster}.json").exists():
        return None
    return Job(status.submission, "local" if is_local(status.job_id) else cluster or "slurm", status.job_id)
