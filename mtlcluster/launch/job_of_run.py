"""Finds the job that trains a run: the last one that submissions.jsonl names for it.

If lines of submissions.jsonl are damaged or lost, the run's status.json may name a later job. Then that one counts.
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


def jobs_in_submissions(found: list[submissions.Submission]) -> dict[str, Job]:
    """The last job of each run, from the lines of submissions.jsonl."""
    last = submissions.latest(found)
    return {run: Job(line.id, line.cluster, job, line.time) for run, (line, job) in last.items()}


def later_job_in_status(status: Status, run: Run, sweep: Sweep, submission: str) -> Job | None:
    """The job that the run's status names, if that job was submitted after `submission`.

    Args:
        status: The run's status.
        run: The run.
        sweep: Its sweep.
        submission: The id of the last submission known from submissions.jsonl; "" if there is none.

    Returns:
        The job. None if the status names no later one, or if it was copied from a remote cluster: that cluster has its
        own submissions.jsonl.
    """
    if submissions.number(status.submission) <= submissions.number(submission) or not fits(JOB, status.job_id):
        return None
    cluster = cluster_of(run)
    if (sweep.clusters / f"{cluster}.json").exists():
        return None
    executor = executor_of(status.job_id)
    fits_executor = cluster and executor_on(cluster) is executor
    return Job(status.submission, cluster if fits_executor else executor.name, status.job_id)
