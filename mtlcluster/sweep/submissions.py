"""submissions.jsonl: who was to train which runs. One line before and one after each submission.

    {"event": "begin", "submission": id, "time": …, "cluster": "slurm", "code": hash, "jobs": [[run, …], …]}
    {"event": "end", "submission": id, "time": …, "jobs": ["123_0", …]}     or, refused: {…, "error": "…"}

A job that looks after several runs is one inner list. A begin without its end is a submission that was killed between,
unless a run of it has begun: workers do so only once they have read the end, so it was there.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.errors import tell_once
from mtlcluster.sweep.files import unfollowed
from mtlcluster.sweep.names import JOB, RUN, SWEEP, fits
from mtlcluster.sweep.reading import LARGE, Unreadable, parse_json, read_bytes
from mtlcluster.sweep.status import read_status

TORN = b'{"event": "'  # how a line begins that a killed writer has left
ID = re.compile(rb'"submission": "(\d+)"')


@dataclass
class Submission:
    id: str
    time: float
    cluster: str
    code: str
    jobs: list[list[str]]  # the runs of each job
    job_ids: list[str] = field(default_factory=list)  # as the scheduler names them, in the same order
    error: str = ""
    ended: bool = False
    told_by_runs: bool = False  # the line of its end is lost; an id that no run has told either is empty

    @property
    def accepted(self) -> bool:
        return self.ended and not self.error


def append(path: Path, event: str, submission: str, **fields: Any) -> None:
    """Adds one line and flushes it to disk."""
    line = json.dumps({"event": event, "submission": submission, "time": time.time(), **fields})
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with open(path, "a", opener=unfollowed) as file:
        file.write(("\n" if torn else "") + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Submission]:
    """All submissions, oldest first. A line that a killed writer left torn is passed over; what else is no line of
    ours, too, and is told. Raises Unreadable where all of it is.
    """
    found: list[Submission] = []
    foreign: list[int] = []
    for place, line in enumerate(_lines(path), 1):
        try:
            entry = parse_json(line)
        except ValueError:
            foreign += [] if line.startswith(TORN) else [place]
            continue
        try:
            _take_in(entry, found)
        except (ValueError, KeyError, TypeError, OverflowError):
            foreign.append(place)
    if foreign:
        more = f" and {len(foreign) - 1:,} more are" if len(foreign) > 1 else " is"
        tell_once(f"{path}: line {foreign[0]}{more} not what a submission writes; passed over")
    for submission in found:
        if not submission.ended:
            _ask_its_runs(submission, path.parent)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    try:
        content = read_bytes(path, LARGE)
    except FileNotFoundError:
        return
    yield from content.removesuffix(b"\n").split(b"\n") if content else ()


def _take_in(entry: Any, found: list[Submission]) -> None:
    """Raises ValueError, KeyError or TypeError for what is no entry; names that can't be ours are refused."""
    name = _fitting(SWEEP, entry["submission"])
    if entry["event"] == "begin":
        jobs = [[_fitting(RUN, run) for run in job] for job in entry["jobs"]]
        when, cluster, code = float(entry["time"]), _fitting(SWEEP, entry["cluster"]), _fitting(SWEEP, entry["code"])
        found.append(Submission(name, when, cluster, code, jobs))
    elif entry["event"] == "end" and (begun := [s for s in found if s.id == name]):
        submission, error = begun[-1], str(entry.get("error", ""))
        job_ids = [_fitting(JOB, job) if job else "" for job in entry.get("jobs", [])]
        if not error and len(job_ids) != len(submission.jobs):
            raise ValueError
        submission.job_ids, submission.error, submission.ended = job_ids, error, True


def _fitting(pattern: re.Pattern[str], name: Any) -> str:
    if not fits(pattern, name):
        raise ValueError(f"{name!r} is no name")
    return str(name)


def _ask_its_runs(submission: Submission, sweep: Path) -> None:
    """Looks whether a run of it has begun, and by what job: jobs of an array differ in the number at their end."""
    for number, runs in enumerate(submission.jobs):
        for run in runs:
            job = _begun_by(sweep / run / "status.json", submission.id)
            if job:
                array, underscore, _ = job.rpartition("_")
                ids = [f"{array}_{n}" if underscore else "" for n in range(len(submission.jobs))]
                ids[number] = job
                submission.job_ids, submission.ended, submission.told_by_runs = ids, True, True
                return


def _begun_by(status: Path, submission: str) -> str:
    """The job that has begun a run for this submission; empty where none has."""
    try:
        found = read_status(status)
    except (OSError, ValueError):
        return ""
    return found.job_id if found and found.submission == submission and fits(JOB, found.job_id) else ""


def latest(submissions: list[Submission]) -> dict[str, tuple[Submission, str]]:
    """Each run's last accepted submission, and the job there that looks after it."""
    return {
        run: (submission, job_id)
        for submission in submissions
        if submission.accepted
        for runs, job_id in zip(submission.jobs, submission.job_ids, strict=True)
        if job_id
        for run in runs
    }


def names(path: Path) -> set[str]:
    """The runs that it names; none where it can't be read."""
    try:
        return {run for submission in read(path) for job in submission.jobs for run in job}
    except Unreadable:
        return set()


def number(submission: str) -> int:
    """By which one sees which of two came later; 0 for what is no number of ours."""
    return int(submission) if submission.isascii() and submission.isdigit() and len(submission) < 10 else 0


def next_number(path: Path) -> int:
    """One that no submission of the sweep has had, be its line readable or not."""
    if not path.exists():
        return 1
    had = [number(found.decode()) for line in _lines(path) for found in ID.findall(line)]
    folder = path.parent / "submissions"
    had += [number(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
    return max(had, default=0) + 1
