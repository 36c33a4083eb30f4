"""Which job looks after a run.

It is the one that submissions.jsonl gave it last. If lines there were torn or lost, the run's own status.json may tell
of a later one.
"""

from typing import NamedTuple

from mtlcluster.launch.executors import executor_of, executor_on
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.names import JOB, fits
from mtlcluster.sweep.status import Status
from mtlcluster.sweep.yaml_fields import cluster_of


class Job(NamedTuple):
    """A run's job.

    Attributes:
        submission: The id of the submission that was accepted; "" if there is none.
        cluster: The cluster's name.
        id: The job's id; "" if it is not known.
        time: When it was submitted, in Unix seconds; 0 if that is not known.
    """

    submission: str = ""
    cluster: str = ""
    id: str = ""
    time: float = 0.0


def given(found: list[submissions.Submission]) -> dict[str, Job]:
    """The job of each run, as submissions.jsonl says."""
    last = submissions.latest(found)
    return {run: Job(given.id, given.cluster, job, given.time) for run, (given, job) in last.items()}


def told_by(status: Status, run: Run, sweep: Sweep, submission: str) -> Job | None:
    """The job that the run's status tells of, if it came later than `submission`.

    None if a worker on a remote cluster wrote the status: it was brought home, and its submissions are over there.
    """
    if submissions.number(status.submission) <= submissions.number(submission) or not fits(JOB, status.job_id):
        return None
    cluster = cluster_of(run)
    if (sweep.clusters / f"{cluster}.json").exists():
        return None
    executor = executor_of(status.job_id)
    fits_executor = cluster and executor_on(cluster) is executor
    return Job(status.submission, cluster if fits_executor else executor.name, status.job_id)
