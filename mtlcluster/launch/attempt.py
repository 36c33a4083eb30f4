"""One attempt at one run: the training process, what it reports, and status.json.

Imported by the worker: nothing heavy here.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mtlcluster.launch.slots import Share
from mtlcluster.sweep.folder import Run
from mtlcluster.sweep.status import Status, write_status

HEARTBEAT = 10.0            # seconds between two writings of status.json while nothing happens
MOST_STOPS = 5              # without progress, in a row; fewer would fail what is only preempted often
STOPPED_AT_START = (
    f"stopped {MOST_STOPS} times in a row before anything new was saved: ask for more time (resources.time), "
    "or save more often (checkpoint_every)"
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Attempt:
    """A training process from its start to its end. The caller holds the run's lock, open as `lock`.

    The process inherits that lock and its slots, so that both are held until it is gone, even if the worker dies first.
    """

    def __init__(
        self, run: Run, code: Path, status: Status, resources: dict[str, Any], share: Share, lock: int
    ) -> None:
        self.run, self.status, self.resources, self.share, self.lock = run, status, resources, share, lock
        self.stopping = False
        self.ready = False              # the child has said that it started
        self.end = ""                   # what it said last: done, stopped or failed
        self.first_step = 0
        self.unread = b""
        self.changed = True
        self.written = 0.0
        self.began, self.elapsed_before = time.time(), status.elapsed
        self._begin_status()
        self.log_start = self._log_header()
        self.reports, report_end = os.pipe()
        os.set_blocking(self.reports, False)
        try:
            with open(run.log, "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "mtlcluster.training.child", str(run.folder), str(report_end)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=code,
                    env=self._environment(code),
                    pass_fds=(report_end, lock, *share.files),
                    start_new_session=True,
                    preexec_fn=_ignore_signals,
                )
        except OSError:
            os.close(self.reports)
            raise
        finally:
            os.close(report_end)
        self.write()

    def _begin_status(self) -> None:
        status = self.status
        status.state, status.error, status.seconds_left = "running", "", None
        status.host = os.uname().nodename
        status.attempt += 1
        status.started = status.started or self.began
        # Taken back as soon as something new is saved. Counted now, for the attempt may end by SIGKILL.
        status.stops_without_progress += 1
        if self.share.note and self.share.note not in status.notes:
            status.notes.append(self.share.note)

    def _log_header(self) -> int:
        """Writes the line that begins this attempt's part of log.txt; returns where that part begins."""
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        with open(self.run.log, "ab") as log:
            start = log.tell()
            job = self.status.job_id
            log.write(f"--- attempt {self.status.attempt}, {when}, {self.status.host}, job {job}\n".encode())
        return start

    def _environment(self, code: Path) -> dict[str, str]:
        environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1"}
        environment |= dict.fromkeys(THREADS, str(self.resources["cpus"]))
        if self.share.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.share.gpus)
        return environment

    def stop(self) -> None:
        """Asks for a checkpoint and an end. Before the child has started there is nothing to save: it is killed."""
        if self.stopping:
            return
        self.stopping = True
        if not self.ready:
            self.process.kill()
            return
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(b"stop\n")
            self.process.stdin.flush()

    def read(self) -> bool:
        """Takes in what the child has reported. Returns False once there will be no more."""
        try:
            data = os.read(self.reports, 2**20)
        except BlockingIOError:
            return True
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            self._take_in(json.loads(line))
        return bool(data)

    def _take_in(self, report: dict[str, Any]) -> None:
        event, status = report.pop("event"), self.status
        for name in ("epoch", "epochs", "step", "steps", "device", "seconds_left", "latest", "best"):
            if name in report:
                setattr(status, name, report[name])
        status.notes += [note for note in report.get("notes", []) if note not in status.notes]
        if event == "started":
            self.ready, self.first_step = True, status.step
        elif event == "saved" and report["step"] > self.first_step:
            status.stops_without_progress = 0
        elif event in ("done", "stopped", "failed"):
            self.end = event
            status.error = report.get("error", "")
        self.changed |= event != "progress"

    def tend(self) -> None:
        """Writes status.json if something happened or a heartbeat is due."""
        if self.changed or time.time() - self.written > HEARTBEAT:
            self.write()

    def write(self) -> None:
        """A full disk must not end the worker: what could not be written is tried again."""
        self.status.heartbeat = time.time()
        self.status.elapsed = self.elapsed_before + self.status.heartbeat - self.began
        try:
            write_status(self.run.status, self.status)
            self.changed = False
        except OSError as error:
            print(f"{self.run.status}: {error.strerror or error}", flush=True)
        self.written = self.status.heartbeat

    def conclude(self) -> None:
        """After the process has ended: the run's state, and everything given back."""
        with contextlib.suppress(ProcessLookupError):       # helpers of the child, such as data loaders
            os.killpg(self.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 1         # a helper in a session of its own may hold the pipe open for ever
        while self.read() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.status.state, self.status.error = self._verdict()
        self.status.seconds_left = None
        self.write()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        os.close(self.reports)
        os.close(self.lock)
        self.share.free()

    def _verdict(self) -> tuple[Any, str]:
        code = self.process.returncode
        if self.end == "done":
            return "done", ""
        if self.end == "failed":
            return "failed", self.status.error
        # A signal while it was to stop is the end of the scheduler's patience, or our own before it had started.
        if self.stopping and (self.end == "stopped" or code < 0):
            if self.run.cancel.exists():
                return "cancelled", ""
            enough = self.status.stops_without_progress >= MOST_STOPS
            return ("failed", STOPPED_AT_START) if enough else ("queued", "")
        return "failed", self._last_words(code)

    def _last_words(self, code: int) -> str:
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = f": out of memory? It asks for {self.resources['memory']} (resources.memory)" if code == -9 else ""
            return f"killed by signal {-code} ({name}){hint}"
        with open(self.run.log, "rb") as log:
            log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return f"ended with exit status {code}: {lines[-1].strip() if lines else 'without a word'}"


def _ignore_signals() -> None:
    """In the child, before it executes Python: stops come from the worker alone."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
