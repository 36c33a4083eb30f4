"""The worker: trains the runs of one job, each in processes of its own. It is the same on Slurm and on this machine.

The worker handles the signals:

- USR2 (the time limit is near, or a preemption with a warning): every run saves and stops, and the job is requeued.
- TERM (a preemption without a warning, or the job's end): the same, but a job that was cancelled is not requeued.

Further signals change nothing.

Confirming runs whose setting is not chosen yet come last: it has the setting chosen first, see choosing.py.

It imports nothing heavy, so that it starts quickly. It reads status.json, so that a requeued job goes on where it was.
"""

import os
import selectors
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import yaml

from mtlcluster.errors import UserError
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import make_folder
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.locks import is_replaced, try_lock
from mtlcluster.sweep.names import PLACEHOLDER, fits
from mtlcluster.sweep.pruning import take_up
from mtlcluster.sweep.reading import open_regular
from mtlcluster.sweep.status import ENDED, State, Status, read_status
from mtlcluster.sweep.submissions import Submission
from mtlcluster.sweep.yaml_fields import code_of, resources_of
from mtlcluster.worker.attempt import MOST_STOPS, STOPPED_AT_START, Attempt
from mtlcluster.worker.choosing import Choosing, grouped
from mtlcluster.worker.rendezvous import Nodes
from mtlcluster.worker.slots import Room
from mtlcluster.worker.status_file import UnwrittenEnd, say, try_write

POLL = 0.5  # seconds until a cancel file or a free slot is noticed
ACCEPTANCE_TIMEOUT = 60.0  # seconds to wait until `submit` has noted that the job was accepted
SIGNALS = {signal.SIGUSR2, signal.SIGTERM}


class SignalListener:
    """Installs the signal handlers, and keeps the first signal that comes.

    Signals that _entry.sh has held back come as soon as the handlers are there.
    """

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        for number in SIGNALS:
            signal.signal(number, self._hear)
        for number in (signal.SIGCONT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _hear(self, number: int, _: object) -> None:
        self.heard = self.heard or signal.Signals(number)


class Worker:
    """Trains runs as there is room for them, until all have ended or a signal comes.

    Attributes:
        failed: True if a run has failed.
        unfinished: True if a run was stopped or was never started.
        too_early: True if a run waits for trials that have not ended. They are other jobs'.
    """

    def __init__(
        self,
        sweep: Sweep,
        submission: Submission,
        job_id: str,
        number: int,
        room: Room,
        nodes: Nodes | None = None,
        waits: bool = True,
    ) -> None:
        """
        Args:
            sweep: The sweep.
            submission: The submission whose job this is.
            job_id: The job's id, which goes into status.json.
            number: The number of this job among those of the submission.
            room: Says how many runs may train at once.
            nodes: The other nodes of the job.
            waits: True if it waits for the trials of other jobs. Otherwise it ends, to be requeued.
        """
        self.sweep, self.submission, self.job_id, self.room = sweep, submission, job_id, room
        self.nodes = nodes or Nodes()
        self.folder = os.open(sweep.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.number, self.waits = number, waits
        self.waiting = [sweep.run(name) for name in submission.jobs[number]]
        self.choosing: list[Choosing] = []  # confirming runs whose setting is not chosen yet
        self.active: list[Attempt] = []
        self.unwritten: list[UnwrittenEnd] = []
        self.selector = selectors.DefaultSelector()
        self.failed = False
        self.unfinished = False
        self.too_early = False

    def work(self, listener: SignalListener) -> None:
        self._leave_out_ended()
        self.choosing = grouped(self.sweep, [run for run in self.waiting if fits(PLACEHOLDER, run.name)])
        self.waiting = [run for run in self.waiting if not fits(PLACEHOLDER, run.name)]
        while self.waiting or self.active or self.unwritten or self.choosing:
            self._look_for_cancels()
            if listener.heard:
                self._stop_all()
            else:
                self._choose()
                self._start()
            for key, _ in self.selector.select(POLL):
                if not key.data():
                    self.selector.unregister(key.fileobj)
            for attempt in list(self.active):
                if attempt.check():
                    self._finish(attempt)
                else:
                    attempt.update_status()
            self.unwritten = [end for end in self.unwritten if not end.is_settled(hurry=bool(listener.heard))]

    def _leave_out_ended(self) -> None:
        """In a requeued job: leaves out runs that have ended, and runs that were submitted again later."""
        latest = submissions.latest(submissions.read(self.sweep.submissions))
        for run in list(self.waiting):
            status = self._status(run)
            if (last := latest.get(run.name)) and last[0].id != self.submission.id:
                self.waiting.remove(run)
            elif status.state in ENDED:
                self.waiting.remove(run)
                self.failed |= status.state == "failed"
            elif status.stops_without_progress >= MOST_STOPS:
                self._end_unbegun(run, status, "failed", STOPPED_AT_START)

    def _status(self, run: Run) -> Status:
        """The run's status so far. How it ended in an earlier submission is left out."""
        try:
            status = read_status(run.status) or Status()
        except ValueError as error:
            status = Status(notes=[f"status.json was started again: {error}"])
        if status.submission != self.submission.id:
            if status.state == "pruned":
                take_up(status.rungs)
            status.state, status.error, status.stops_without_progress = "queued", "", 0
        status.submission, status.job_id = self.submission.id, self.job_id
        return status

    def _end_unbegun(self, run: Run, status: Status, state: State, error: str = "") -> None:
        """Writes the end of a run that is not going to be started."""
        status.state, status.error, status.heartbeat = state, error, time.time()
        with suppress(OSError):  # a placeholder has no folder yet
            make_folder(run.folder)
        if trouble := try_write(run, status):
            self.unwritten.append(UnwrittenEnd(run, status, trouble))
        if run in self.waiting:
            self.waiting.remove(run)
        self.failed |= state == "failed"

    def _choose(self) -> None:
        """Has settings chosen whose trials have ended. Their confirming runs are then among those that wait."""
        if self.choosing and is_replaced(self.sweep.folder, self.folder):
            self._stop_choosing()
        for choosing in list(self.choosing):
            said = choosing.look([*self.waiting, *(attempt.run for attempt in self.active)])
            if said.get("chosen"):
                self.choosing.remove(choosing)
                self._take_chosen()
            elif "error" in said:
                self.choosing.remove(choosing)
                for run in choosing.runs:
                    self._end_unbegun(run, self._status(run), "failed", str(said["error"]))
            elif choosing.must_wait and not self.waits:
                say(f"{choosing.method}: {said.get('waits_for', '')}")
                self.choosing.remove(choosing)
                self.unfinished = self.too_early = True

    def _take_chosen(self) -> None:
        """Takes the runs that have replaced placeholders of this job, except those that have ended."""
        before = self.submission.jobs[self.number]
        again = next(s for s in submissions.read(self.sweep.submissions) if s.id == self.submission.id)
        new = [self.sweep.run(name) for name in again.jobs[self.number] if name not in before]
        self.submission = again
        self.waiting += new
        self._leave_out_ended()

    def _stop_choosing(self) -> None:
        for choosing in self.choosing:
            choosing.stop()
        self.choosing.clear()

    def _start(self) -> None:
        """Starts the runs that there is room for, in order.

        Starts none if the sweep's folder was removed. Another one may be in its place, which has its own worker.
        """
        if self.waiting and is_replaced(self.sweep.folder, self.folder):
            say(f"{self.sweep.folder} was removed")
            self.waiting.clear()
        for run in list(self.waiting):
            try:
                if not self._start_one(run):
                    return
            except UserError as error:
                self._end_unbegun(run, self._status(run), "failed", f"could not be started: {error}")
            except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
                # For example because config.yaml is damaged.
                why = f"could not be started: {type(error).__name__}: {error}".splitlines()[0]
                self._end_unbegun(run, self._status(run), "failed", why)

    def _start_one(self, run: Run) -> bool:
        """Starts a run unless another worker has it. Returns False if there is no room for it."""
        resources = resources_of(run)
        with suppress(FileNotFoundError):
            open_regular(run.log).close()  # refuses a FIFO, which could block forever
        if (wanted := resources.get("nodes", 1)) > (there := 1 + len(self.nodes.connections)):
            raise OSError(f"it asks for {wanted} nodes; {there} answered")
        allocation = self.room.take(resources["cpus"], resources["gpus"])
        if allocation is None:
            return False
        with ExitStack() as unused:
            unused.callback(allocation.free)
            lock = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            unused.callback(os.close, lock)
            if try_lock(lock):  # else the worker of an earlier job, or its training process, still has the run
                attempt = Attempt(run, self._code(run), self._status(run), resources, allocation, lock, self.nodes)
                attempt.start()
                unused.pop_all()
                self.waiting.remove(run)
                self.active.append(attempt)
                for source, read in attempt.sources.items():
                    self.selector.register(source, selectors.EVENT_READ, read)
        return True

    def _code(self, run: Run) -> Path:
        """The code of a run. A confirming run has that of its trial, which may be older than its job's."""
        return self.sweep.code / (code_of(run) or self.submission.code)

    def _look_for_cancels(self) -> None:
        for attempt in self.active:
            if attempt.run.cancel.exists():
                attempt.cancel()
        for run in list(self.waiting):
            if run.cancel.exists():
                self._end_unbegun(run, self._status(run), "cancelled")
        for choosing in self.choosing:
            for run in [run for run in choosing.runs if run.cancel.exists()]:
                self._end_unbegun(run, self._status(run), "cancelled")
                choosing.runs.remove(run)
        for choosing in [choosing for choosing in self.choosing if not choosing.runs]:
            choosing.stop()
            self.choosing.remove(choosing)

    def _stop_all(self) -> None:
        self.unfinished |= bool(self.waiting or self.choosing)
        self.waiting.clear()
        self._stop_choosing()
        for attempt in self.active:
            attempt.stop()

    def _finish(self, attempt: Attempt) -> None:
        for source in attempt.sources:
            with suppress(KeyError):
                self.selector.unregister(source)
        attempt.conclude()
        self.active.remove(attempt)
        if trouble := attempt.status_file.trouble:
            self.unwritten.append(UnwrittenEnd(attempt.run, attempt.status, trouble))
        self.failed |= attempt.status.state == "failed"
        self.unfinished |= attempt.status.state == "queued"


def accepted(sweep: Sweep, submission: str) -> Submission | None:
    """Waits until `submit` has noted that the submission was accepted. Returns None if it was killed before that.

    A job of a killed `submit` must not train, because the next `submit` gives its runs to another job.
    """
    deadline = time.monotonic() + ACCEPTANCE_TIMEOUT
    while time.monotonic() < deadline:
        found = next((s for s in submissions.read(sweep.submissions) if s.id == submission), None)
        if found is None or found.ended:
            return found if found and found.accepted else None
        time.sleep(POLL)
    return None
