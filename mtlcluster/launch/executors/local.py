"""This machine as an executor: one worker process for each submission. All workers share the cores and GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mtlcluster import _entry
from mtlcluster.config.cluster_files import LOCAL
from mtlcluster.launch.executors.base import Executor, JobState, Traces
from mtlcluster.processes.environment import headless
from mtlcluster.processes.local_job_id import local_job_id, state_and_start_time, this_boot
from mtlcluster.processes.pythonpath import behind
from mtlcluster.progress import Say
from mtlcluster.sweep.files import unfollowed
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.locks import is_locked, try_lock
from mtlcluster.worker import slots

if TYPE_CHECKING:
    from mtlcluster.config.cluster import Cluster
    from mtlcluster.launch.packing import Array, Packing, Unit

SILENT_SINCE = 120.0  # seconds without a word after which a worker of another machine or boot counts as dead
KILLING = 1.0  # seconds that a killed worker may take to be gone


class Local(Executor):
    """This machine."""

    name = LOCAL
    has_queue = False

    def why_away(self) -> str:
        slots.refuse_unsafe_folder()
        return ""

    def limits(self, sweep: Sweep, array: "Array", cluster: "Cluster") -> str:
        nodes, gpus = array.resources.nodes, array.resources.gpu_count
        if nodes > 1:
            return f"resources.nodes is {nodes}, this machine is one; choose another --cluster"
        if gpus and gpus > (here := len(slots.visible_gpus())):
            return f"resources.gpus is {gpus}, this machine has {here}; choose another --cluster"
        return ""

    def arrays(self, units: "Sequence[Unit]", packing: "Packing", cluster: "Cluster") -> "list[Array]":
        """One job for each code: its worker starts whatever there is room for, and confirming runs last."""
        from mtlcluster.launch.packing import Array

        by_code: dict[str, list[Unit]] = {}
        for unit in sorted(units, key=lambda unit: bool(unit.after)):
            by_code.setdefault(unit.code, []).append(unit)
        return [Array(code, same[0].resources, len(same), [[u.name for u in same]]) for code, same in by_code.items()]

    def script(self, sweep: Sweep, submission: str, array: "Array", cluster: "Cluster") -> str:
        return "on this machine: one worker, which starts as many at once as there are cores and GPUs"

    def submit(self, sweep: Sweep, submission: str, array: "Array", cluster: "Cluster", say: Say) -> list[str]:
        return [local_job_id(start_worker(sweep, submission, array.code))]

    def states(self, jobs: Mapping[str, Traces], owners: Collection[int]) -> dict[str, JobState]:
        return {job: _state(job, traces) for job, traces in jobs.items()}

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Kills workers of this machine. Their training processes notice it, save and end."""
        for job in job_ids:
            _kill(job)


def start_worker(sweep: Sweep, submission: str, code: str) -> int:
    """Starts the worker of a submission in a session of its own, so that it outlives the terminal.

    Returns:
        Its process id.
    """
    path = sweep.worker_log(submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", opener=unfollowed) as log:
        try_lock(log.fileno())  # the worker inherits it with the open file, and hands it to none of its children
        worker = subprocess.Popen(
            [sys.executable, *_entry.python_arguments("worker", sweep.code / code), str(sweep.folder), submission],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=sweep.code / code,
            env=headless(PYTHONPATH=behind(sweep.code / code)),
            start_new_session=True,
        )
    return worker.pid


def _state(job_id: str, traces: Traces) -> JobState:
    """A worker lives if its log is locked, on whichever machine and in whichever container it may be.

    On a file system without locks it lives if its process exists. For a worker of another boot (or machine) only its
    last word counts then.
    """
    if is_locked(traces.log):
        return JobState("running")
    try:
        _, boot, pid, start_time = job_id.split(":")
    except ValueError:
        return JobState("unknown", f"'{job_id}' is not a job id")
    if boot not in (this_boot(), os.uname().nodename):  # older versions noted the host's name
        if time.time() - traces.heard < SILENT_SINCE:
            return JobState("unknown", "its worker is on another machine, or on this one before it was started anew")
        return JobState("gone")
    try:
        state, started = state_and_start_time(pid)
    except OSError:
        return JobState("gone")
    lives = started == start_time and state not in "ZX" and not traces.copied_from(_folder_of_worker(pid))
    return JobState("running" if lives else "gone")


def _folder_of_worker(pid: str) -> str:
    """The sweep's folder with which a worker was started; "" if it can't be found out."""
    with suppress(OSError, IndexError):
        command = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "surrogateescape").split("\0")
        return _entry.own_arguments("worker", command)[0]
    return ""


def _kill(job_id: str) -> None:
    """Kills a worker of this boot, and waits until it is gone."""
    _, boot, pid, start_time = job_id.split(":")
    with suppress(OSError):
        if boot == this_boot() and state_and_start_time(pid)[1] == start_time:
            os.kill(int(pid), signal.SIGKILL)
            deadline = time.monotonic() + KILLING
            while state_and_start_time(pid)[0] not in "ZX" and time.monotonic() < deadline:
                time.sleep(0.01)
