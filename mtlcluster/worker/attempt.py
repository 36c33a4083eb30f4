"""One attempt at one run: the training process, or several (ranks), what the first reports, and status.json.

Imported by the worker: nothing heavy here.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mtlcluster.processes.environment import HASHES
from mtlcluster.processes.exit_status import DONE, STOPPED
from mtlcluster.processes.pythonpath import behind
from mtlcluster.sweep.files import is_replaced, unfollowed
from mtlcluster.sweep.folder import Run
from mtlcluster.sweep.status import Status, write_status
from mtlcluster.worker.rank_keeper import GRACE, Crew, command, ignore_signals, kill_group, without_ranks
from mtlcluster.worker.rendezvous import Nodes
from mtlcluster.worker.slots import SETUP_FAILED, Share

HEARTBEAT = 10.0  # seconds between two writings of status.json while nothing happens
AGAIN = 2.0  # seconds until it is tried again where it could not be written
MOMENT = 0.2  # seconds from the end of a process's reports to its own
PATIENCE = 60.0  # seconds that a cancelled run may take to a step's end, where it stops
SAVING = 600.0  # and that it may then take to write a checkpoint
MOST_STOPS = 5  # without progress, in a row; fewer would fail what is only preempted often
HUNG = "it did not stop when it was cancelled, and was killed; what it had saved is there"
STOPPED_AT_START = (
    f"stopped {MOST_STOPS} times in a row before anything new was saved: ask for more time (resources.time), "
    "or save more often (checkpoint_every)"
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Failure:
    """How the first rank failed that did."""

    code: int
    words: str


def record(run: Run, status: Status) -> str:
    """Writes status.json. Returns what was in the way, or ''."""
    try:
        write_status(run.status, status)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def say(line: str) -> None:
    """In the worker's log, which may be on the same full disk."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


class Attempt:
    """A run's training processes from their start to their end. The caller holds the run's lock, open as `lock`.

    The processes on this node inherit that lock and the slots, so that both are held until they are gone, even if the
    worker dies first. Rank 0 is the worker's own child and speaks for the run; the others have keepers. When one fails
    the others wait for it in vain: what has not failed by itself then within GRACE is killed.
    """

    def __init__(
        self,
        run: Run,
        code: Path,
        status: Status,
        resources: dict[str, Any],
        share: Share,
        lock: int,
        nodes: Nodes | None = None,
    ) -> None:
        self.run, self.status, self.resources, self.share, self.lock = run, status, resources, share, lock
        self.nodes = nodes or Nodes()
        self.node_count: int = resources.get("nodes", 1)
        self.ranks_here: int = max(1, resources["gpus"])
        self.stopping = False
        self.cancelled: float | None = None  # since when
        self.cancel_note = ""
        self.saving = False  # it writes a checkpoint
        self.turned = 0.0  # when that was said last, or was over
        self.ready = False  # the child has said that it started
        self.end = ""  # what it said last: done, stopped or failed
        self.first_step = 0
        self.unread = b""
        self.failure: Failure | None = None
        self.killed = False
        self.deadline: float | None = None  # when the ranks that are left over are killed
        self.crews: list[Crew] = []
        self.keeper: subprocess.Popen[bytes] | None = None
        self.changed = True  # status.json is to be written
        self.written, self.trouble = 0.0, ""  # when that was tried last, and what was in the way
        # Durations by a clock that nobody sets: else one that is set back would silence the run until then.
        self.began, self.elapsed_before = time.monotonic(), status.elapsed
        self._begin_status()
        self.log_start = self._log_header()
        # By which it is known again: its lock may be purged as an old file.
        self.folder = os.open(run.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.reports, report_end = os.pipe()
        os.set_blocking(self.reports, False)
        shared = self._shared_environment(code)
        try:
            with open(run.log, "ab", opener=unfollowed) as log:
                self.process = subprocess.Popen(
                    command(str(run.folder), report_end, lock, *share.files),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=code,
                    env=self._environment(shared),
                    pass_fds=(report_end, lock, *share.files),
                    start_new_session=True,
                    preexec_fn=ignore_signals,
                )
        except OSError:
            os.close(self.reports)
            os.close(self.folder)
            raise
        finally:
            os.close(report_end)
        try:
            self._start_others(code, shared)
        except OSError as error:
            self._fail(1, f"not all ranks could be started: {error}")
            self._kill()
        self.write()

    @property
    def ranks(self) -> int:
        return self.node_count * self.ranks_here

    @property
    def sources(self) -> dict[Any, Callable[[], bool]]:
        """What there is to read from, each with what reads it and says whether more may come."""
        return {crew.voice: crew.read for crew in self.crews} | {self.reports: self.read}

    def _begin_status(self) -> None:
        status = self.status
        status.state, status.error, status.seconds_left = "running", "", None
        status.host = os.uname().nodename
        status.notes = [note for note in status.notes if note != HUNG and not note.startswith(SETUP_FAILED)]
        status.attempt += 1
        status.started = status.started or time.time()
        # Taken back as soon as something new is saved. Counted now, for the attempt may end by SIGKILL.
        status.stops_without_progress += 1
        if self.share.note and self.share.note not in status.notes:
            status.notes.append(self.share.note)

    def _log_header(self) -> int:
        """Writes the line that begins this attempt's part of log.txt; returns where that part begins."""
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        with open(self.run.log, "ab", opener=unfollowed) as log:
            start = log.tell()
            job = self.status.job_id
            log.write(f"--- attempt {self.status.attempt}, {when}, {self.status.host}, job {job}\n".encode())
            if self.share.note:
                log.write(f"{self.share.note}\n".encode(errors="replace"))
        return start

    def _shared_environment(self, code: Path) -> dict[str, str]:
        """What all ranks are to have in theirs."""
        environment = {"PYTHONPATH": behind(code), "PYTHONUNBUFFERED": "1", **HASHES}
        environment |= dict.fromkeys(THREADS, str(max(1, self.resources["cpus"] // self.ranks_here)))
        if self.ranks > 1:
            environment |= {"WORLD_SIZE": str(self.ranks), "LOCAL_WORLD_SIZE": str(self.ranks_here)}
            environment |= {"MASTER_ADDR": self.nodes.address, "MASTER_PORT": str(self.nodes.free_port())}
        return environment

    def _environment(self, shared: dict[str, str]) -> dict[str, str]:
        """Rank 0's, and its keeper's on this node."""
        environment = without_ranks() | shared
        if self.ranks > 1:
            environment |= {"RANK": "0", "LOCAL_RANK": "0"}
        if self.share.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.share.gpus)
        return environment

    def _start_others(self, code: Path, shared: dict[str, str]) -> None:
        """The ranks beside the first: those of a node follow each other."""
        voices = self.nodes.voices[: self.node_count - 1]
        if self.ranks_here > 1:
            voices = [self._start_keeper(code, shared), *voices]
        places = [divmod(rank, self.ranks_here) for rank in range(1, self.ranks)]
        for voice, node in zip(voices, sorted({node for node, _ in places}), strict=True):
            ranks = [(node * self.ranks_here + local, local) for n, local in places if n == node]
            crew = Crew(voice, self._log_line, self._rank_ended)
            self.crews.append(crew)
            crew.start(ranks, folder=str(self.run.folder), code=str(code), environment=shared)

    def _start_keeper(self, code: Path, shared: dict[str, str]) -> Connection:
        ours, theirs = Pipe()
        with theirs, open(self.run.log, "ab", opener=unfollowed) as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", "mtlcluster.worker.rank_keeper", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=code,
                env=self._environment(shared),
                pass_fds=(theirs.fileno(), self.lock, *self.share.files),
                start_new_session=True,
                preexec_fn=ignore_signals,
            )
        return ours

    def _log_line(self, rank: int, line: str) -> None:
        # A full disk must not end the worker.
        with contextlib.suppress(OSError), open(self.run.log, "ab", opener=unfollowed) as log:
            log.write(f"[rank {rank}] {line}\n".encode())

    def _rank_ended(self, rank: int, code: int, last_line: str) -> None:
        if code not in (DONE, STOPPED):
            if self.process.poll() == -signal.SIGKILL:  # no other's failure does that
                self._fail(-signal.SIGKILL, self._words(-signal.SIGKILL, ""))
            self._fail(code, f"rank {rank}: {self._words(code, last_line)}")

    def _fail(self, code: int, words: str) -> None:
        """Notes that a rank has failed. Only the first counts: the others may have missed it, or were killed."""
        if not self.killed:
            self.failure = self.failure or Failure(code, words)

    def _fail_first(self, code: int, words: str) -> None:
        """Rank 0 has failed, unless it missed another that failed before."""
        if code != -signal.SIGKILL:
            for crew in self.crews:
                crew.catch_up()
        self._fail(code, words)

    def over(self) -> bool:
        """Whether all ranks have ended. Sees to it that none is waited for in vain."""
        code = self.process.poll()
        if code is not None and not self.end:
            self.read()
            if not self.end:
                self._fail_first(code, self._last_words(code))
        if self.deadline is None and (code is not None or self.failure):
            self.deadline = time.monotonic() + GRACE
        if self.deadline is not None and not self.killed and time.monotonic() > self.deadline:
            self._kill()
        if self._overdue():
            self.status.notes.append(HUNG)
            self._kill()
        return code is not None and not any(crew.running for crew in self.crews)

    def _kill(self) -> None:
        self.killed = True
        kill_group(self.process)
        for crew in self.crews:
            crew.kill()

    def cancel(self) -> None:
        """Stops it for good: what hangs is killed. (Of another stop the scheduler sees the end.)"""
        if self.cancelled is None:
            self.cancelled = time.monotonic()
            self.cancel_note = (
                f"asked to stop at {time.strftime('%H:%M:%S')}; it will be killed {PATIENCE:.0f} seconds later "
                "if it goes on, "
                f"{SAVING / 60:.0f} minutes later if it saves"
            )
            self.status.notes.append(self.cancel_note)
            self.changed = True
            self.stop()

    def _overdue(self) -> bool:
        if self.cancelled is None or self.killed:
            return False
        return time.monotonic() > max(self.cancelled, self.turned) + (SAVING if self.saving else PATIENCE)

    def stop(self) -> None:
        """Asks for a checkpoint and an end. Before the child has started there is nothing to save: it is killed."""
        if self.stopping:
            return
        self.stopping = True
        if not self.ready:
            self._kill()
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
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):  # to see its end before the others miss it
                self.process.wait(MOMENT)
        return bool(data)

    def _take_in(self, report: dict[str, Any]) -> None:
        event, status = report.pop("event"), self.status
        for name in ("epoch", "epochs", "step", "steps", "device", "seconds_left", "latest", "best"):
            if name in report:
                setattr(status, name, report[name])
        status.notes += [note for note in report.get("notes", []) if note not in status.notes]
        if self.saving or event == "saving":
            self.saving, self.turned = event == "saving", time.monotonic()
        if event == "started":
            self.ready, self.first_step = True, status.step
        elif event == "saved" and report["step"] > self.first_step:
            status.stops_without_progress = 0
        elif event in ("done", "stopped", "failed"):
            self.end = event
            if event == "failed":
                self._fail_first(1, report["error"])
        self.changed |= event not in ("progress", "saving")

    def tend(self) -> None:
        """Writes status.json if something happened or a heartbeat is due."""
        due = AGAIN if self.trouble else 0.0 if self.changed else HEARTBEAT
        if time.monotonic() - self.written >= due:
            self.write()

    def write(self) -> None:
        """A full disk must not end the worker: what could not be written is tried again. But where the run was removed,
        and perhaps submitted anew, this one is over and says no more.
        """
        if is_replaced(self.run.folder, self.folder):
            if not self.killed:
                say(f"{self.run.folder} was removed while it trained: ended")
                self._kill()
            self.changed, self.trouble, self.written = False, "", time.monotonic()
            return
        self.status.heartbeat, self.written = time.time(), time.monotonic()
        self.status.elapsed = self.elapsed_before + self.written - self.began
        trouble = record(self.run, self.status)
        if trouble and trouble != self.trouble:
            say(f"{self.run.status}: {trouble}")
        self.changed, self.trouble = bool(trouble), trouble

    def conclude(self) -> None:
        """After all ranks have ended: the run's state, and everything given back."""
        kill_group(self.process)  # of which there may be helpers
        deadline = time.monotonic() + 1  # a helper in a session of its own may hold the pipe open for ever
        while self.read() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.cancel_note:
            self.status.notes.remove(self.cancel_note)
        self.status.state, self.status.error = self._verdict()
        self.status.seconds_left = None
        self.write()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        os.close(self.reports)
        if self.keeper is not None:
            self.crews[0].voice.close()  # it has nothing left to do
            self.keeper.wait()
        os.close(self.lock)
        os.close(self.folder)
        self.share.free()

    def _verdict(self) -> tuple[Any, str]:
        failure = self.failure
        if self.end == "done":  # rank 0 has all there is to have
            if failure:
                self.status.notes.append(f"at its end {failure.words}")
            return "done", ""
        # A signal while it was to stop is the end of the scheduler's patience, or our own before it had started.
        if self.stopping and (self.end == "stopped" or failure is None or failure.code < 0):
            if self.run.cancel.exists():
                return "cancelled", ""
            enough = self.status.stops_without_progress >= MOST_STOPS
            return ("failed", STOPPED_AT_START) if enough else ("queued", "")
        return "failed", failure.words if failure else self._last_words(self.process.returncode)

    def _last_words(self, code: int) -> str:
        """Of rank 0."""
        lines = []
        with contextlib.suppress(OSError), open(self.run.log, "rb", opener=unfollowed) as log:
            log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return self._words(code, next((line.strip() for line in reversed(lines) if not line.startswith("[rank ")), ""))

    def _words(self, code: int, last_line: str) -> str:
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = f": out of memory? It asks for {self.resources['memory']} (resources.memory)" if code == -9 else ""
            return f"killed by signal {-code} ({name}){hint}"
        return f"ended with exit status {code}: {last_line or 'no output'}"
