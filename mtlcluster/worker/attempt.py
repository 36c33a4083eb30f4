"""One attempt at one run, from the start of its training processes to their end."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlcluster.processes.exit_status import DONE, FAILED, STOPPED
from mtlcluster.sweep.files import unfollowed
from mtlcluster.sweep.folder import Run
from mtlcluster.sweep.status import State, Status
from mtlcluster.worker.pruning import Pruning
from mtlcluster.worker.rank_process import GRACE, kill_group
from mtlcluster.worker.ranks import Ranks
from mtlcluster.worker.rendezvous import Nodes
from mtlcluster.worker.slots import SETUP_FAILED, Allocation
from mtlcluster.worker.status_file import StatusFile, say

STEP_TIMEOUT = 60.0  # seconds that a cancelled run may take to the end of a step, where it stops
SAVE_TIMEOUT = 600.0  # and that it may then take to write a checkpoint
LAST_REPORTS = 1.0  # seconds; a helper in a session of its own may hold the pipe of the reports open forever
LAST_OUTPUT = 4096  # bytes of the log in which the last line is looked for
MOST_STOPS = 5  # in a row, without progress; with fewer, a run that is only preempted often would fail
HUNG = "it did not stop when it was cancelled, and was killed; what it had saved is there"
STOPPED_AT_START = (
    f"stopped {MOST_STOPS} times in a row before anything new was saved: ask for more time (resources.time), "
    "or save more often (checkpoint_every)"
)


@dataclass(frozen=True)
class Failure:
    """The failure of a rank: its exit status, and a sentence."""

    code: int
    words: str


class Attempt:
    """One attempt at a run: it follows what the ranks report, stops them, and decides how the run has ended.

    If a rank fails, the others go on waiting for it. Those that still run after GRACE seconds are killed.

    Attributes:
        run: The run.
        status: Its status, which the attempt updates.
        status_file: The writer of status.json.
        ranks: The training processes.
    """

    def __init__(
        self,
        run: Run,
        code: Path,
        status: Status,
        resources: dict[str, Any],
        allocation: Allocation,
        lock: int,
        nodes: Nodes,
    ) -> None:
        """
        Args:
            run: The run.
            code: The code that it is trained with, code/<hash>/.
            status: Its status so far.
            resources: The resources that its configuration asks for.
            allocation: The CPUs and GPUs that it got on this node. `conclude` gives them back.
            lock: The run's lock, open and held. `conclude` closes it.
            nodes: The other nodes of the job.
        """
        self.run, self.status, self.resources, self.allocation, self.lock = run, status, resources, allocation, lock
        self.ranks = Ranks(run, code, resources, allocation, lock, nodes)
        self.stopping = False
        self.pruned = False
        self.cancelled_at: float | None = None
        self.cancel_note = ""
        self.saving = False  # rank 0 is writing a checkpoint
        self.saving_changed_at = 0.0
        self.ready = False  # rank 0 has reported that it started
        self.end = ""  # its last report: done, stopped or failed
        self.first_step = 0
        self.failure: Failure | None = None
        self.deadline: float | None = None  # when the ranks that are left over are killed

    def start(self) -> None:
        """Starts the training processes. Raises OSError if there can't be a first one."""
        self._begin_status()
        self.log_start = self._write_log_header()
        self.status_file = StatusFile(self.run, self.status)
        self.pruning = Pruning(self.run, self.status_file)
        try:
            self.ranks.start_first()
        except OSError:
            self.status_file.close()
            raise
        try:
            self.ranks.start_others(self._log_line, self._rank_ended)
        except OSError as error:
            self._fail(FAILED, f"not all ranks could be started: {error}")
            self.ranks.kill()
        self._write_status()

    @property
    def sources(self) -> dict[Any, Callable[[], bool]]:
        """The connections to read from, each with the function that reads it. It returns true if more may come."""
        return {kept.connection: kept.read for kept in self.ranks.others} | {self.ranks.reports: self._read}

    def _begin_status(self) -> None:
        status = self.status
        status.state, status.error, status.seconds_left = "running", "", None
        status.host = os.uname().nodename
        status.notes = [note for note in status.notes if note != HUNG and not note.startswith(SETUP_FAILED)]
        status.attempt += 1
        status.started = status.started or time.time()
        # Taken back as soon as something new is saved. Counted now, because the attempt may end by SIGKILL.
        status.stops_without_progress += 1
        if self.allocation.note and self.allocation.note not in status.notes:
            status.notes.append(self.allocation.note)

    def _write_log_header(self) -> int:
        """Writes the first line of this attempt into log.txt. Returns its position there, in bytes."""
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        with open(self.run.log, "ab", opener=unfollowed) as log:
            start = log.tell()
            job = self.status.job_id
            log.write(f"--- attempt {self.status.attempt}, {when}, {self.status.host}, job {job}\n".encode())
            if self.allocation.note:
                log.write(f"{self.allocation.note}\n".encode(errors="replace"))
        return start

    def _log_line(self, rank: int, line: str) -> None:
        # A full disk must not end the worker.
        with contextlib.suppress(OSError), open(self.run.log, "ab", opener=unfollowed) as log:
            log.write(f"[rank {rank}] {line}\n".encode())

    def _rank_ended(self, rank: int, code: int, last_line: str) -> None:
        """Takes note that a rank other than rank 0 has ended."""
        if code in (DONE, STOPPED):
            return
        if self.ranks.first.poll() == -signal.SIGKILL:  # then rank 0 was first: no other's failure kills it
            self._fail(-signal.SIGKILL, self._describe(-signal.SIGKILL, ""))
        self._fail(code, f"rank {rank}: {self._describe(code, last_line)}")

    def _first_failed(self, code: int, words: str) -> None:
        """Notes that rank 0 has failed, unless another rank failed before it and caused that."""
        if code != -signal.SIGKILL:
            self.ranks.catch_up()
        self._fail(code, words)

    def _fail(self, code: int, words: str) -> None:
        """Notes the failure of a rank. Only the first one counts: later ranks fail because of it, or are killed."""
        if not self.ranks.killed:
            self.failure = self.failure or Failure(code, words)

    def check(self) -> bool:
        """Kills ranks that wait too long for a failed one. Returns true if all ranks have ended."""
        code = self.ranks.first.poll()
        if code is not None and not self.end:
            self._read()
            if not self.end:
                self._first_failed(code, self._last_words(code))
        if self.deadline is None and (code is not None or self.failure):
            self.deadline = time.monotonic() + GRACE
        if self.deadline is not None and not self.ranks.killed and time.monotonic() > self.deadline:
            self.ranks.kill()
        if self._hangs():
            self.status.notes.append(HUNG)
            self.ranks.kill()
        return code is not None and self.ranks.are_over

    def _hangs(self) -> bool:
        """True if the run was cancelled, and has neither ended nor begun to save in time."""
        if self.cancelled_at is None or self.ranks.killed:
            return False
        limit = SAVE_TIMEOUT if self.saving else STEP_TIMEOUT
        return time.monotonic() > max(self.cancelled_at, self.saving_changed_at) + limit

    def cancel(self) -> None:
        """Stops the run for good, and kills it if it hangs. (If it hangs at another stop, the scheduler kills it.)"""
        if self.cancelled_at is not None:
            return
        self.cancelled_at = time.monotonic()
        self.cancel_note = (
            f"asked to stop at {time.strftime('%H:%M:%S')}; it will be killed {STEP_TIMEOUT:.0f} seconds later "
            f"if it goes on, {SAVE_TIMEOUT / 60:.0f} minutes later if it saves"
        )
        self.status.notes.append(self.cancel_note)
        self.status_file.changed = True
        self.stop()

    def stop(self) -> None:
        """Asks for a checkpoint and an end. Before rank 0 has started there is nothing to save: all are killed."""
        if self.stopping:
            return
        self.stopping = True
        if self.ready:
            self.ranks.ask_to_stop()
        else:
            self.ranks.kill()

    def _read(self) -> bool:
        """Reads the reports of rank 0. Returns False if nothing more will come."""
        reports, more = self.ranks.read_reports()
        for report in reports:
            self._handle(report)
        return more

    def _handle(self, report: dict[str, Any]) -> None:
        """Takes a report over into the status. training/commands/child.py describes the reports."""
        event, status = report.pop("event"), self.status
        for name in ("epoch", "epochs", "step", "steps", "device", "seconds_left", "latest", "best"):
            if name in report:
                setattr(status, name, report[name])
        status.notes += [note for note in report.get("notes", []) if note not in status.notes]
        if self.saving or event == "saving":
            self.saving, self.saving_changed_at = event == "saving", time.monotonic()
        if event == "started":
            self.ready, self.first_step = True, status.step
        elif event == "saved" and report["step"] > self.first_step:
            status.stops_without_progress = 0
        elif event in ("done", "stopped", "failed"):
            self.end = event
            if event == "failed":
                self._first_failed(FAILED, report["error"])
        self.status_file.changed |= event not in ("progress", "saving")
        if validation := report.get("last_validation"):
            self._look_at_rungs(validation)

    def _look_at_rungs(self, validation: dict[str, int]) -> None:
        """Stops the run if it is pruned. At its start, too: the worker before may have missed a rung, or not decided.

        Args:
            validation: The last validation of a training that goes on.
        """
        self.pruning.note_rungs(validation)
        if not self.stopping and not self.pruning.goes_on():
            self.pruned = True
            self.stop()

    def update_status(self) -> None:
        """Writes status.json if that is due."""
        if self.status_file.is_due:
            self._write_status()

    def _write_status(self) -> None:
        """Writes status.json. If the run was removed, the attempt is over."""
        if not self.status_file.write() and not self.ranks.killed:
            say(f"{self.run.folder} was removed while it trained: ended")
            self.ranks.kill()

    def conclude(self) -> None:
        """After all ranks have ended: writes the run's end into its status; frees the lock, CPUs and GPUs."""
        kill_group(self.ranks.first)  # its helpers may still be there
        deadline = time.monotonic() + LAST_REPORTS
        while self._read() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.cancel_note:
            self.status.notes.remove(self.cancel_note)
        self.status.state, self.status.error = self._verdict()
        self.status.seconds_left = None
        self._write_status()
        self.ranks.close()
        self.status_file.close()
        os.close(self.lock)
        self.allocation.free()

    def _verdict(self) -> tuple[State, str]:
        """The run's state from now on, and its error."""
        failure = self.failure
        if self.end == "done":  # rank 0 has written all results
            if failure:
                self.status.notes.append(f"at its end {failure.words}")
            return "done", ""
        # A signal to a run that was to stop comes from the scheduler, which lost its patience, or from `stop`.
        if self.stopping and (self.end == "stopped" or failure is None or failure.code < 0):
            if self.run.cancel.exists():
                return "cancelled", ""
            if self.pruned:
                return "pruned", ""
            enough = self.status.stops_without_progress >= MOST_STOPS
            return ("failed", STOPPED_AT_START) if enough else ("queued", "")
        return "failed", failure.words if failure else self._last_words(self.ranks.first.returncode)

    def _last_words(self, code: int) -> str:
        """A sentence about how rank 0 ended, with the last line that it printed."""
        lines = []
        with contextlib.suppress(OSError), open(self.run.log, "rb", opener=unfollowed) as log:
            log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - LAST_OUTPUT))
            lines = log.read().decode(errors="replace").strip().splitlines()
        last_line = next((line.strip() for line in reversed(lines) if not line.startswith("[rank ")), "")
        return self._describe(code, last_line)

    def _describe(self, code: int, last_line: str) -> str:
        """An exit status as a sentence."""
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = f": out of memory? It asks for {self.resources['memory']} (resources.memory)" if code == -9 else ""
            return f"killed by signal {-code} ({name}){hint}"
        return f"ended with exit status {code}: {last_line or 'no output'}"
