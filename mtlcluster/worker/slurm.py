"""The worker's process in a Slurm job: `python -m mtlcluster._entry slurm-worker SWEEP_FOLDER SUBMISSION AT_ONCE`.

The batch script starts it on every node of the job. On the first node it trains the job's runs, AT_ONCE of them at a
time. On the others it only keeps the ranks of these runs.
"""

import os
import re
import sys
import time
from pathlib import Path

from mtlcluster.errors import SchedulerError
from mtlcluster.processes.slurm_commands import run_slurm
from mtlcluster.sweep.folder import Sweep
from mtlcluster.worker.rendezvous import gather, keep_ranks
from mtlcluster.worker.slots import JobRoom
from mtlcluster.worker.status_file import say
from mtlcluster.worker.worker import SignalListener, Worker, accepted

SLURM_TIMEOUT = 60.0  # seconds that Slurm may take to answer
LATER = "5minutes"  # until a job that came too early is started again; without it, Slurm itself waits two minutes
PAUSES = (0, 2, 5)  # seconds before each attempt to be requeued


def main() -> None:
    """Ends with 0 if all runs are done, or if some are unfinished and the job is requeued; else with 1."""
    listener = SignalListener()
    sweep, submission, at_once = Sweep(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    folder = sweep.submission_folder(submission)
    if int(os.environ["SLURM_PROCID"]) > 0:
        keep_ranks(folder)
        return
    nodes = gather(folder, int(os.environ["SLURM_NTASKS"]) - 1, lambda: listener.heard)
    found = accepted(sweep, submission)
    if found is None:
        sys.exit(f"submission {submission} was not completed: its runs are another job's")
    worker = Worker(sweep, found, slurm_job_id(), _number_in_array(), JobRoom(at_once), nodes, waits=False)
    worker.work(listener)
    if worker.unfinished:
        sys.exit(0 if requeue(later=worker.too_early) else 1)
    if worker.failed:
        sys.exit(1)


def slurm_job_id() -> str:
    """This job's id, such as `12`, or `12_3` in an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _number_in_array() -> int:
    """The number of this job among those of its submission."""
    return int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))


def requeue(later: bool = False) -> bool:
    """Asks Slurm to put this job back into the queue. Returns whether it will.

    If `later`, the job waits there for LATER: the trials that it needs have not ended.

    A job that was cancelled is not requeued, even if an earlier signal had another reason. If Slurm does not answer
    whether it was, the requeue is asked for nevertheless.

    By itself Slurm requeues only the jobs that it has to kill. This one ends before, which Slurm takes for completed.
    """
    job = slurm_job_id()
    for pause in PAUSES:
        time.sleep(pause)
        if _is_ending(job):
            return False
        if _slurm("scontrol", "requeue", job) is not None:
            if later:
                _slurm("scontrol", "update", f"JobId={job}", f"StartTime=now+{LATER}")
            return True
    return False


def _is_ending(job: str) -> bool:
    """True if Slurm is ending the job for another reason than its time limit.

    (squeue can't be asked: the user's variables may filter its answers.)
    """
    shown = _slurm("scontrol", "--oneliner", "show", "job", job) or ""
    found = re.search(r"\bJobState=(\w+) Reason=(\w+)", shown)
    return found is not None and found[1] != "RUNNING" and found[2] != "TimeLimit"


def _slurm(*command: str) -> str | None:
    """Runs a command of Slurm and returns its output. If it fails, prints the error and returns None."""
    try:
        return run_slurm(*command, timeout=SLURM_TIMEOUT)
    except SchedulerError as error:
        say(str(error))
        return None


if __name__ == "__main__":
    main()
