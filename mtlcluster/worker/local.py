"""The worker's process on this machine: `python -m mtlcluster._entry worker SWEEP_FOLDER SUBMISSION`.

It begins once `submit` has noted that the submission was accepted.
"""

import os
import sys
from pathlib import Path

from mtlcluster.processes.local_job_id import local_job_id
from mtlcluster.sweep.folder import Sweep
from mtlcluster.worker.slots import Machine
from mtlcluster.worker.worker import SignalListener, Worker, accepted


def main() -> None:
    listener = SignalListener()
    sweep, submission = Sweep(Path(sys.argv[1])), sys.argv[2]
    found = accepted(sweep, submission)
    if found is None:
        sys.exit(f"submission {submission} was not completed: its runs are another worker's")
    worker = Worker(sweep, found, local_job_id(os.getpid()), 0, Machine())
    worker.work(listener)
    sys.exit(1 if worker.failed else 0)


if __name__ == "__main__":
    main()
