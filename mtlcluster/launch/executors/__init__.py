"""Executors start the jobs of runs. This is the one place that chooses between them.

base            the interface
local           this machine: one worker process for each submission
slurm           Slurm: arrays of jobs; with slurm_script, slurm_queue and slurm_limits
"""

from collections.abc import Collection, Iterable, Mapping

from mtlcluster.config.cluster_files import LOCAL, SLURM
from mtlcluster.launch.executors.base import Executor, JobState, Traces
from mtlcluster.launch.executors.local import Local
from mtlcluster.launch.executors.slurm import Slurm

# By the name of the cluster that needs no cluster file. Every cluster of a cluster file is Slurm's.
EXECUTORS: dict[str, Executor] = {
    SLURM: Slurm(),
    LOCAL: Local(),
}


def executor_on(cluster: str) -> Executor:
    """The executor of the cluster with this name."""
    return EXECUTORS.get(cluster, EXECUTORS[SLURM])


def executor_of(job_id: str) -> Executor:
    """The executor that has, or had, this job."""
    return EXECUTORS.get(job_id.partition(":")[0], EXECUTORS[SLURM])


def states(jobs: Mapping[str, Traces], owners: Collection[int] = ()) -> dict[str, JobState]:
    """The state of each job, whichever executor has it. See Executor.states."""
    found: dict[str, JobState] = {}
    for executor, ids in _by_executor(jobs).items():
        found |= executor.states({job: jobs[job] for job in ids}, owners)
    return found


def cancel(job_ids: Iterable[str]) -> None:
    """Ends jobs, whichever executor has them. Raises SchedulerError."""
    for executor, ids in _by_executor(job_ids).items():
        executor.cancel(ids)


def _by_executor(job_ids: Iterable[str]) -> dict[Executor, set[str]]:
    found: dict[Executor, set[str]] = {}
    for job in job_ids:
        found.setdefault(executor_of(job), set()).add(job)
    return found
