"""This machine as an executor: one detached worker a submission, which shares the cores and GPUs with all others.

`python -m mtlcluster.launch.executors.local SWEEP_FOLDER SUBMISSION` is that worker. It begins when its standard input
ends: `submit` has then noted that the submission was accepted, or has died before it could.
"""

import os
import subprocess
import sys
from pathlib import Path

from mtlcluster.launch.executors.job_state import local_job_id
from mtlcluster.processes.environment import headless
from mtlcluster.processes.pythonpath import behind
from mtlcluster.sweep.files import try_lock, unfollowed
from mtlcluster.sweep.folder import Sweep
from mtlcluster.worker.slots import Machine
from mtlcluster.worker.worker import Listener, Worker, accepted


def start(sweep: Sweep, submission: str, code: str) -> "subprocess.Popen[bytes]":
    """Starts the worker, in a session of its own so that it outlives the terminal; `release` lets it begin."""
    path = sweep.worker_log(submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", opener=unfollowed) as log:
        try_lock(log.fileno())  # the worker inherits it with the open file, and hands it to none of its children
        return subprocess.Popen(
            [sys.executable, "-m", "mtlcluster.launch.executors.local", str(sweep.folder), submission],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=sweep.code / code,
            env=headless(PYTHONPATH=behind(sweep.code / code)),
            start_new_session=True,
        )


def release(worker: "subprocess.Popen[bytes]") -> None:
    assert worker.stdin is not None
    worker.stdin.close()


def main() -> None:
    listener = Listener()
    sweep, submission = Sweep(Path(sys.argv[1])), sys.argv[2]
    sys.stdin.buffer.read()
    found = accepted(sweep, submission)
    if found is None:
        sys.exit(f"submission {submission} was not completed: its runs are another worker's")
    worker = Worker(sweep, found, local_job_id(os.getpid()), found.jobs[0], Machine())
    worker.work(listener)
    sys.exit(1 if worker.failed else 0)


if __name__ == "__main__":
    main()
