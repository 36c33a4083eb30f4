"""The state of each run, derived from the worker's status.json, the cancel file and the executor's answer.

- If the worker wrote how the run ended (done, failed, cancelled), that stands.
- Otherwise the executor is asked about the job first, and the file is read again afterwards. So a run that ends in
  between is not called lost.
- A file that the worker of an earlier submission wrote tells how far the run is, not its state: the new worker has not
  begun yet.
- A run without an accepted submission (`submit` was killed) is queued, without a job.
- A confirming run whose setting is not chosen yet has no folder. It is shown under its placeholder, as queued.
- A run whose job is gone is still running while a process of it lives: it saves before it ends. Its lock tells.
"""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mtlcluster import printable
from mtlcluster.errors import tell_once
from mtlcluster.launch import executors
from mtlcluster.launch.executors.base import JobState, Traces
from mtlcluster.launch.job_of_run import Job, jobs_in_submissions, later_job_in_status
from mtlcluster.launch.roles import TRIAL, Roles
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.locks import is_locked
from mtlcluster.sweep.names import PLACEHOLDER, fits, natural
from mtlcluster.sweep.reading import Unreadable
from mtlcluster.sweep.status import ENDED, State, Status, read_status

TO_RETRY: tuple[State, ...] = ("failed", "lost", "cancelled")
SILENCE = 120.0  # seconds without a heartbeat after which the user is told; a healthy worker has one every ten
ORPHAN = "its job is gone, but its training process is still alive: it saves and ends by itself"


@dataclass
class RunStatus:
    """One run as `status` shows it. The fields are those of `status --json`, see docs/status-json.md.

    Times are Unix seconds, durations seconds.
    """

    sweep: str
    run: str
    state: State
    verified: bool  # False: the executor could not be asked, and `state` is the last known one
    cancelling: bool  # the user has cancelled it, and it has not ended yet
    epoch: int  # finished epochs
    epochs: int  # of how many; 0 until known
    step: int
    steps: int
    seconds_left: float | None  # None unless running and known
    elapsed: float  # training time, all attempts together
    started: float | None
    heartbeat: float | None  # when the worker last wrote
    attempt: int
    cluster: str
    job_id: str  # "" if no submission of the run was accepted yet
    host: str
    device: str
    latest: dict[str, float]  # newest values by series name
    best: dict[str, Any] | None
    error: str  # one line, for a failed run, or if status.json can't be read
    scheduler: str  # the executor's own words, such as "PENDING (Priority)" or "TIMEOUT"
    notes: list[str] = field(default_factory=list)
    age: float = 0.0  # how old this information is, if the run's cluster can't be reached; else 0
    silent: float = 0.0  # how long a running run has had no heartbeat; 0 if it has one
    method: str = ""  # in a search: the name of its method,
    trial: int | None = None  # the number of its setting,
    roles: list[str] = field(default_factory=list)  # what it is for, see roles.py,
    values: dict[str, Any] = field(default_factory=dict)  # and the drawn values by dotted key

    def __post_init__(self) -> None:
        """Makes each text one printable line: the folder may come from somebody else, the words from a cluster."""
        for name in ("cluster", "job_id", "host", "device", "error", "scheduler"):
            setattr(self, name, printable.line(str(getattr(self, name))))
        self.notes = [printable.line(str(note)) for note in self.notes]

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def share(self) -> float:
        """The finished part of the training, from 0 to 1."""
        if self.state == "done":
            return 1.0
        return self.step / self.steps if self.steps else self.epoch / self.epochs if self.epochs else 0.0


def observe(sweeps: Iterable[Sweep], names: Collection[str] | None = None) -> list[RunStatus]:
    """The state of all runs of these sweeps, in the order of sweeps and names.

    names: only the runs with these names, if given.
    """
    all_facts = [facts for sweep in sweeps for facts in _first_facts(sweep, names)]
    unsettled = [facts for facts in all_facts if not facts.settled]
    answers = executors.states(_traces(unsettled), {facts.owner for facts in unsettled})
    for facts in unsettled:
        facts.answer = answers.get(facts.job.id)
        facts.read()
    runs = [facts.conclude() for facts in all_facts]
    _say_what_they_wait_for(runs)
    return runs


def _say_what_they_wait_for(runs: list[RunStatus]) -> None:
    """Adds a note to each confirming run that waits for its choice: which trials have not ended."""
    trials: dict[tuple[str, str], list[RunStatus]] = {}
    for run in runs:
        if TRIAL in run.roles:
            trials.setdefault((run.sweep, run.method), []).append(run)
    for run in runs:
        if fits(PLACEHOLDER, run.run) and not run.ended:
            known = trials.get((run.sweep, run.method), [])
            unended = [trial.run for trial in known if not trial.ended]
            if known and not unended:
                run.notes.append(f"the trials of {run.method} have ended; its job will choose from them")
            else:
                run.notes.append(f"waits for {unended[0] if len(unended) == 1 else f'the trials of {run.method}'}")


def _traces(all_facts: "list[_RunFacts]") -> dict[str, Traces]:
    """The traces of the runs' jobs, by job id. A job was heard of when it was submitted or any of its runs wrote."""
    found: dict[str, Traces] = {}
    for facts in all_facts:
        if facts.job.id:
            heard = max(facts.job.time, facts.file.heartbeat if facts.current else 0.0)
            if (other := found.get(facts.job.id)) is None or heard > other.heard:
                found[facts.job.id] = Traces(facts.sweep.worker_log(facts.job.submission), heard)
    return found


def count(runs: Iterable[RunStatus]) -> Counter[State]:
    return Counter(run.state for run in runs)


@dataclass
class _RunFacts:
    """The facts about a run from which its state is derived."""

    sweep: Sweep
    run: Run
    job: Job  # of the last accepted submission
    owner: int  # the user id of the sweep's owner
    roles: Roles
    file: Status = field(default_factory=Status)
    unreadable: str = ""
    answer: JobState | None = None

    def read(self) -> None:
        if self.answer and self.answer.state == "gone":
            with suppress(OSError):
                list(self.run.folder.iterdir())  # makes a network file system look beyond its cache
        try:
            self.file, self.unreadable = read_status(self.run.status) or Status(), ""
        except (OSError, ValueError) as error:
            why = str(error).removeprefix(f"{self.run.status}: ")
            self.file, self.unreadable = Status(), f"status.json can't be read: {why}"

    @property
    def current(self) -> bool:
        """True if the worker of the last accepted submission wrote the file."""
        return bool(self.job.submission) and self.file.submission == self.job.submission

    @property
    def settled(self) -> bool:
        """True if the run has ended for good.

        If it has no submission, it was trained elsewhere and brought home, or by the job of a killed `submit`.
        """
        return (self.current or not self.job.submission) and self.file.state in ENDED

    def state(self) -> tuple[State, bool]:
        """The state, and whether it is verified."""
        if self.settled:
            return self.file.state, True
        said = self.file.state if self.current else "queued"
        if self.answer is None or self.answer.state == "gone":
            return self._without_job(self.answer), True
        if self.answer.state == "unknown":
            return said, False
        if self.unreadable and is_locked(self.run.lock):
            said = "running"
        # The job may be running while this run still waits for its turn in it.
        return ("running" if self.answer.state == said == "running" else "queued"), True

    def _without_job(self, answer: JobState | None) -> State:
        """The state of a run without a job. answer: the state of its job, which is gone; None if it never had one."""
        if is_locked(self.run.lock):
            return "running"
        if self.run.cancel.exists() or (answer and answer.said == "CANCELLED"):
            return "cancelled"
        return "lost" if answer else "queued"

    def conclude(self) -> RunStatus:
        file, (state, verified) = self.file, self.state()
        notes = [*file.notes, self.unreadable] if self.unreadable else [*file.notes]
        if state == "running" and verified and (self.answer is None or self.answer.state == "gone"):
            notes.append(ORPHAN)
        silent, words = self._silence() if state == "running" and self.current else (0.0, "")
        notes += [words] if words else []
        return RunStatus(
            sweep=self.sweep.name,
            run=self.run.name,
            state=state,
            verified=verified,
            cancelling=state not in ENDED and self.run.cancel.exists(),
            epoch=file.epoch,
            epochs=file.epochs,
            step=file.step,
            steps=file.steps,
            seconds_left=file.seconds_left if state == "running" else None,
            elapsed=file.elapsed,
            started=file.started or None,
            heartbeat=file.heartbeat or None,
            attempt=file.attempt,
            cluster=self.job.cluster,
            job_id=self.job.id,
            host=file.host,
            device=file.device,
            latest=file.latest,
            best=file.best,
            error=file.error if state == "failed" else self.unreadable,
            scheduler=self.answer.said if self.answer else "",
            notes=notes,
            silent=silent,
            **vars(self.roles.of(self.run.name)),
        )

    def _silence(self) -> tuple[float, str]:
        """The seconds since the worker last wrote, and a sentence about what that may mean.

        A heartbeat has the time of the worker's machine, the file's own time that of the file system. If they differ by
        much, a clock is wrong.
        """
        now, host = time.time(), self.file.host
        age = written = now - self.file.heartbeat
        if host != os.uname().nodename:
            with suppress(OSError):
                written = now - self.run.status.stat().st_mtime
        if age > SILENCE >= written:
            return age, f"its heartbeat is {age:.0f} s old, but its file new: does the clock of {host} differ?"
        silent = written if age < 0 else age
        if silent <= SILENCE:
            return 0.0, ""
        return silent, f"no heartbeat for {silent:.0f} s: its worker or {host} hangs or sleeps, or the disk is full"


def _first_facts(sweep: Sweep, names: Collection[str] | None) -> list[_RunFacts]:
    try:
        history = submissions.read(sweep.submissions)
    except Unreadable as error:
        tell_once(f"{error}; the jobs of runs that have not begun are not known")
        history = []
    jobs, roles = jobs_in_submissions(history), Roles(sweep)
    waiting = {name for line in history for job in line.jobs for name in job if fits(PLACEHOLDER, name)}
    runs = [*sweep.runs(), *map(sweep.run, waiting)]
    runs = sorted((run for run in runs if names is None or run.name in names), key=lambda run: natural(run.name))
    owner = sweep.folder.stat().st_uid
    all_facts = []
    for run in runs:
        facts = _RunFacts(sweep, run, jobs.get(run.name, Job()), owner, roles)
        facts.read()
        if not facts.settled and not facts.current:
            facts.job = later_job_in_status(facts.file, run, sweep, facts.job.submission) or facts.job
        all_facts.append(facts)
    return all_facts
