"""The worker: looks after the runs of one job, each in a training process of its own. The same for every executor.

It owns the signals. USR2 (a time limit that draws near, or a preemption that says so): every run saves and stops, and
the job asks to be requeued. TERM (a preemption that says no more, or the job's end): they save and stop as well, and
the job is requeued unless it has been cancelled. Whatever comes after the first signal changes nothing.

It imports nothing heavy, so that it is ready soon, and reads status.json, so that a requeued job goes on where it was.
"""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import yaml

from mtlcluster.errors import UserError
from mtlcluster.launch.executors.job_state import without_options
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import is_replaced, try_lock
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.reading import open_regular
from mtlcluster.sweep.status import ENDED, Status, read_status
from mtlcluster.sweep.submissions import Submission
from mtlcluster.sweep.yaml_fields import resources_of
from mtlcluster.worker.attempt import AGAIN, MOST_STOPS, STOPPED_AT_START, Attempt, record, say
from mtlcluster.worker.rendezvous import Nodes, gather, keep_ranks
from mtlcluster.worker.slots import JobRoom, Room

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
        resources = resources_of(run)
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


def work_in_slurm(sweep_folder: str, submission: str, job: int, at_once: int) -> None:
    """What a Slurm job does, called by its batch script on every node: trains the runs of the submission's job `job`.

    Exits with 1 if a run has failed. If some are unfinished, it asks Slurm for a requeue and exits. On the nodes beside
    the first it only keeps their ranks.
    """
    listener = Listener()
    sweep = Sweep(Path(sweep_folder))
    folder = sweep.submission_folder(submission)
    if int(os.environ["SLURM_PROCID"]) > 0:
        keep_ranks(folder)
        return
    nodes = gather(folder, int(os.environ["SLURM_NTASKS"]) - 1, lambda: listener.heard)
    found = accepted(sweep, submission)
    if found is None:
        sys.exit(f"submission {submission} was not completed: its runs are another job's")
    worker = Worker(sweep, found, slurm_job_id(), found.jobs[job], JobRoom(at_once), nodes)
    worker.work(listener)
    if worker.unfinished:
        sys.exit(0 if requeue() else 1)
    if worker.failed:
        sys.exit(1)


def slurm_job_id() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def requeue() -> bool:
    """Puts this job back into the queue, unless Slurm is ending it for another reason than its time limit: one that was
    cancelled shall stay so, be it after a first signal. But no answer is no end.

    (A job that ends by itself after a TERM has completed, for Slurm: it requeues only those that it has to kill.)
    """
    job = slurm_job_id()
    for patience in (0, 2, 5):
        time.sleep(patience)
        if _is_ending(job):
            return False
        if _slurm("scontrol", "requeue", job) is not None:
            return True
    return False


def _is_ending(job: str) -> bool:
    """Whether Slurm says so. (Of what scontrol shows no variable leaves anything out, as of squeue's answers.)"""
    found = re.search(r"\bJobState=(\w+) Reason=(\w+)", _slurm("scontrol", "--oneliner", "show", "job", job) or "")
    return found is not None and found[1] != "RUNNING" and found[2] != "TimeLimit"


def _slurm(*command: str) -> str | None:
    """What it answers; None, and a line in the job's output, if it refuses."""
    try:
        environment = without_options(os.environ)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
        return done.stdout.strip()
    except subprocess.CalledProcessError as error:
        say(f"{' '.join(command)}: {error.stderr.strip()}")
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"{' '.join(command)}: {error}")
    return None
