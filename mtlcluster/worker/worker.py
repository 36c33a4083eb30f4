"""The worker: looks after the runs of one job, each in a training process of its own. The same for every executor.

It owns the signals. USR2 (a time limit that draws near, or a preemption that says so): every run saves and stops, and
the job asks to be requeued. TERM (a preemption that says no more, or the job's end): they save and stop as well, and
the job is requeued unless it has been cancelled. Whatever comes after the first signal changes nothing.

It imports nothing heavy, so that it is ready soon, and reads status.json, so that a requeued job goes on where it was.
"""

import functools
import os
import selectors
import signal
import time
from contextlib import ExitStack, suppress
from typing import Any

import yaml

from mtlcluster.errors import UserError
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import is_replaced, try_lock
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.reading import open_regular, read_yaml_text
from mtlcluster.sweep.status import ENDED, Status, read_status
from mtlcluster.sweep.submissions import Submission
from mtlcluster.worker.attempt import AGAIN, MOST_STOPS, STOPPED_AT_START, Attempt, record, say
from mtlcluster.worker.rendezvous import Nodes
from mtlcluster.worker.slots import Room

TURN = 0.5  # seconds: how soon a cancel file or a free slot is seen
ACCEPTANCE = 60.0  # seconds to wait until `submit` has noted that the job was accepted
LAST_WORDS = 1800.0  # seconds for which the end of a run is tried to be written, where it can't be,
HURRY = 10.0  # and where the job is about to end itself
SIGNALS = {signal.SIGUSR2, signal.SIGTERM}


class Listener:
    """Takes the signals over, lets in what start.sh held back, and keeps the first that comes."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        for number in SIGNALS:
            signal.signal(number, self._hear)
        for number in (signal.SIGCONT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _hear(self, number: int, _: object) -> None:
        self.heard = self.heard or signal.Signals(number)


class Unwritten:
    """How a run ended, where its status.json can't be written: the disk is full or may only be read. It is tried again
    until it can, for LAST_WORDS seconds.
    """

    def __init__(self, run: Run, status: Status, trouble: str) -> None:
        self.run, self.status = run, status
        self.since = self.tried = time.monotonic()
        say(f"{run.status}: {trouble}; it should say: {status.state} {status.error}".rstrip())
        status.notes.append(f"how it ended could not be written at first: {trouble}")

    def is_settled(self, hurry: bool) -> bool:
        """Whether it is written by now, or never will be. hurry: the job is about to end."""
        now = time.monotonic()
        if now - self.tried < AGAIN:
            return False
        self.tried = now
        written, patience = not record(self.run, self.status), HURRY if hurry else LAST_WORDS
        return written or now - self.since > patience or not self.run.folder.is_dir()


class Worker:
    """Trains `runs` of a submission as there is room for them, until all have ended or the listener hears a signal."""

    def __init__(
        self, sweep: Sweep, submission: Submission, job_id: str, runs: list[str], room: Room, nodes: Nodes | None = None
    ) -> None:
        self.sweep, self.submission, self.job_id, self.room = sweep, submission, job_id, room
        self.nodes = nodes or Nodes()
        self.code = sweep.code / submission.code
        self.folder = os.open(sweep.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.waiting = [sweep.run(name) for name in runs]
        self.active: list[Attempt] = []
        self.unwritten: list[Unwritten] = []
        self.selector = selectors.DefaultSelector()
        self.failed = False
        self.unfinished = False  # a run was stopped, or never begun

    def work(self, listener: Listener) -> None:
        self._leave_out_ended()
        while self.waiting or self.active or self.unwritten:
            self._look_for_cancels()
            if listener.heard:
                self._stop_all()
            else:
                self._start()
            for key, _ in self.selector.select(TURN):
                if not key.data():
                    self.selector.unregister(key.fileobj)
            for attempt in list(self.active):
                if attempt.over():
                    self._finish(attempt)
                else:
                    attempt.tend()
            self.unwritten = [last for last in self.unwritten if not last.is_settled(hurry=bool(listener.heard))]

    def _leave_out_ended(self) -> None:
        """Of a requeued job, the runs that have ended; and those that a later submission has taken over."""
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
        """The run's status as this submission's; what an earlier one left of it goes on, but not how it ended."""
        try:
            status = read_status(run.status) or Status()
        except ValueError as error:
            status = Status(notes=[f"status.json was started again: {error}"])
        if status.submission != self.submission.id:
            status.state, status.error, status.stops_without_progress = "queued", "", 0
        status.submission, status.job_id = self.submission.id, self.job_id
        return status

    def _end_unbegun(self, run: Run, status: Status, state: Any, error: str = "") -> None:
        status.state, status.error, status.heartbeat = state, error, time.time()
        if trouble := record(run, status):
            self.unwritten.append(Unwritten(run, status, trouble))
        self.waiting.remove(run)
        self.failed |= state == "failed"

    def _start(self) -> None:
        """Starts what there is room for, in order; nothing where the sweep was removed: one in its place has its own
        worker.
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
                # A damaged config.yaml, for one.
                why = f"could not be started: {type(error).__name__}: {error}".splitlines()[0]
                self._end_unbegun(run, self._status(run), "failed", why)

    def _start_one(self, run: Run) -> bool:
        """Starts `run` unless another worker has it. Returns False where there is no room for it."""
        resources = read_resources(run)
        with suppress(FileNotFoundError):
            open_regular(run.log).close()  # what is no file might be waited for without end
        if (wanted := resources.get("nodes", 1)) > (there := 1 + len(self.nodes.voices)):
            raise OSError(f"it asks for {wanted} nodes; {there} answered")
        share = self.room.take(resources["cpus"], resources["gpus"])
        if share is None:
            return False
        with ExitStack() as unused:
            unused.callback(share.free)
            lock = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            unused.callback(os.close, lock)
            if try_lock(lock):  # else an earlier job's worker, or its child, is still at it
                attempt = Attempt(run, self.code, self._status(run), resources, share, lock, self.nodes)
                unused.pop_all()
                self.waiting.remove(run)
                self.active.append(attempt)
                for source, read in attempt.sources.items():
                    self.selector.register(source, selectors.EVENT_READ, read)
        return True

    def _look_for_cancels(self) -> None:
        for attempt in self.active:
            if attempt.run.cancel.exists():
                attempt.cancel()
        for run in list(self.waiting):
            if run.cancel.exists():
                self._end_unbegun(run, self._status(run), "cancelled")

    def _stop_all(self) -> None:
        self.unfinished |= bool(self.waiting)
        self.waiting.clear()
        for attempt in self.active:
            attempt.stop()

    def _finish(self, attempt: Attempt) -> None:
        for source in attempt.sources:
            with suppress(KeyError):
                self.selector.unregister(source)
        attempt.conclude()
        self.active.remove(attempt)
        if attempt.trouble:
            self.unwritten.append(Unwritten(attempt.run, attempt.status, attempt.trouble))
        self.failed |= attempt.status.state == "failed"
        self.unfinished |= attempt.status.state == "queued"


@functools.cache
def read_resources(run: Run) -> dict[str, Any]:
    """What the run's config.yaml asks for; of the GPUs only how many: their type was the scheduler's to heed."""
    config = yaml.load(read_yaml_text(run.config), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    resources: dict[str, Any] = config["resources"]
    if isinstance(gpus := resources["gpus"], dict):
        resources["gpus"] = gpus["count"]
    return resources


def accepted(sweep: Sweep, submission: str) -> Submission | None:
    """The submission, once `submit` has noted that it was accepted; None if it was killed before it could.

    A job of a killed `submit` must not train: the next `submit` gives its runs to another job.
    """
    deadline = time.monotonic() + ACCEPTANCE
    while time.monotonic() < deadline:
        found = next((s for s in submissions.read(sweep.submissions) if s.id == submission), None)
        if found is None or found.ended:
            return found if found and found.accepted else None
        time.sleep(TURN)
    return None
