"""This machine as an executor: one detached worker a submission, which shares the cores and GPUs with all others."""

import subprocess
import sys

from mtlcluster import _entry
from mtlcluster.processes.environment import headless
from mtlcluster.processes.pythonpath import behind
from mtlcluster.sweep.files import try_lock, unfollowed
from mtlcluster.sweep.folder import Sweep


def start(sweep: Sweep, submission: str, code: str) -> "subprocess.Popen[bytes]":
    """Starts the worker, in a session of its own so that it outlives the terminal; `release` lets it begin."""
    path = sweep.worker_log(submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", opener=unfollowed) as log:
        try_lock(log.fileno())  # the worker inherits it with the open file, and hands it to none of its children
        return subprocess.Popen(
            [sys.executable, *_entry.python_arguments("worker", sweep.code / code), str(sweep.folder), submission],
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
