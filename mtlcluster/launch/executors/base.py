"""The interface of executors. An executor starts the jobs of runs, on Slurm or on this machine.

A new executor is a file beside this one and a line in `EXECUTORS`, see __init__.py. It starts workers, see
mtlcluster/worker/. The worker itself puts a stopped job back into the queue: `worker/slurm.py` asks Slurm to requeue
it. A local worker has no queue.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mtlcluster.errors import SchedulerError
from mtlcluster.progress import Say
from mtlcluster.sweep.folder import Sweep

if TYPE_CHECKING:  # pydantic, which `status` should not wait for
    from mtlcluster.config.cluster import Cluster
    from mtlcluster.launch.packing import Array, Packing, Unit


class Unsettled(SchedulerError):
    """It is not known whether a job was submitted. The submission stays open, and the next `submit` settles it."""


@dataclass(frozen=True)
class JobState:
    """The state of a job, as its executor reports it.

    Attributes:
        state: The job waits, runs, or is gone; `unknown` if nobody could be asked.
        said: The executor's own words, such as `PENDING (Priority)`, `RUNNING` or `TIMEOUT`; may be empty.
    """

    state: Literal["queued", "running", "gone", "unknown"]
    said: str = ""


@dataclass(frozen=True)
class Traces:
    """Traces of a job in the sweep's folder.

    Attributes:
        log: The output of a local worker. It is locked as long as the worker lives.
        heard: When its worker last wrote, or when the job was submitted, in Unix seconds.
    """

    log: Path
    heard: float

    def copied_from(self, original: str) -> bool:
        """True if this sweep's folder is a copy of `original`. The jobs of the original are not the copy's."""
        here, there = _inode(str(self.log.parents[2])), _inode(original)
        return here is not None and there is not None and here != there


@functools.cache
def _inode(folder: str) -> int | None:
    """The number that identifies a folder, the same for every path to it. None if the folder does not exist."""
    try:
        return Path(folder).stat().st_ino if folder else None
    except (OSError, ValueError):
        return None


class Executor(ABC):
    """Starts the jobs of runs. It has no state: submissions.jsonl says what it has submitted.

    Attributes:
        name: The name of the cluster on which it works without a cluster file. Its job ids begin with this name and a
            colon; only those of Slurm, which are numbers, do not.
        has_queue: True if jobs wait in the queue of a controller that others use, too. Then a waiting job is cancelled
            there, and the controller is asked less often.
    """

    name: ClassVar[str]
    has_queue: ClassVar[bool]

    def why_away(self) -> str:
        """Returns why no job can be submitted now; "" if one can. Raises UserError for what the user can mend."""
        return ""

    @abstractmethod
    def limits(self, sweep: Sweep, array: "Array", cluster: "Cluster") -> str:
        """Returns why such jobs can never start; "" if they can."""

    @abstractmethod
    def arrays(self, units: "Sequence[Unit]", packing: "Packing", cluster: "Cluster") -> "list[Array]":
        """Divides runs into jobs, and jobs into arrays: an array is what one call of `submit` submits."""

    @abstractmethod
    def script(self, sweep: Sweep, submission: str, array: "Array", cluster: "Cluster") -> str:
        """Returns what `submit --dry-run` shows of an array: a line about its jobs, and their script, if any."""

    def remarks(self, units: "Sequence[Unit]", cluster: "Cluster") -> list[str]:
        """Returns what the user should know about the options of these runs, a line each."""
        return []

    @abstractmethod
    def submit(self, sweep: Sweep, submission: str, array: "Array", cluster: "Cluster", say: Say) -> list[str]:
        """Submits the jobs of an array.

        The worker of a job must wait until submissions.jsonl says that the submission was accepted, see
        `worker.worker.accepted`. This is written after `submit` has returned.

        Args:
            sweep: The sweep, whose folder is locked.
            submission: The id of the submission; sweep.submission_folder(submission) exists.
            array: The runs of each job, their code and what they need. If it has `after`, its jobs should start when
                those runs have ended. One that starts earlier waits, or asks to be requeued.
            cluster: The options of the cluster.
            say: Called with a line for the user if something is odd.

        Returns:
            The id of each job, in the order of array.jobs.

        Raises:
            SchedulerError: Nothing was submitted; the message says why.
            Unsettled: Something may have been submitted.
        """

    def cancel_orphans(self, sweep: Sweep, submission: str) -> list[str]:
        """Cancels the jobs that a killed `submit` has left of a submission; returns their ids.

        Needed where such a job would wait long before its worker sees that the submission was not accepted.
        """
        return []

    @abstractmethod
    def states(self, jobs: Mapping[str, Traces], owners: Collection[int]) -> dict[str, JobState]:
        """Returns the state of each job. Does not raise: a state may be unknown.

        Args:
            jobs: The traces of each job, by its id.
            owners: The ids of users, other than the caller, that may have submitted them.
        """

    @abstractmethod
    def cancel(self, job_ids: Iterable[str]) -> None:
        """Ends jobs. It is no error if one has ended already. Raises SchedulerError."""
