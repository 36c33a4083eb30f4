"""submissions.jsonl: which job trains which runs. One line before each submission, and one after it.

    {"event": "begin", "submission": id, "time": …, "cluster": "slurm", "code": hash, "jobs": [[run, …], …]}
    {"event": "end", "submission": id, "time": …, "jobs": ["123_0", …]}     or, refused: {…, "error": "…"}

Each inner list is the runs of one job. A begin without its end is a submission that was killed in between. But if a run
of it has started, the end was written and is lost: workers start runs only after they have read it.

A job may have confirming runs whose setting is chosen later. The file names them by placeholders, see choices.py.
`read` replaces a placeholder by the name of its run as soon as this run exists.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.errors import tell_once
from mtlcluster.sweep.choices import Choice, parse_placeholder, read_choices
from mtlcluster.sweep.files import unfollowed
from mtlcluster.sweep.names import JOB, PLACEHOLDER, RUN, SWEEP, fits
from mtlcluster.sweep.reading import LARGE, Unreadable, parse_json, read_bytes
from mtlcluster.sweep.status import read_status

INCOMPLETE = b'{"event": "'  # the beginning of a line that a killed process has not finished
ID = re.compile(rb'"submission": "(\d+)"')


@dataclass
class Submission:
    """Jobs that were submitted together."""

    id: str
    time: float
    cluster: str
    code: str
    jobs: list[list[str]]  # the runs of each job
    job_ids: list[str] = field(default_factory=list)  # the scheduler's ids, in the same order; "" if unknown
    error: str = ""
    ended: bool = False
    told_by_runs: bool = False  # its end is lost; the ids are those that its runs tell

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
    """All submissions, oldest first.

    An incomplete line of a killed process is skipped. Any other invalid line is skipped with a warning. Raises
    Unreadable if the file can't be read.
    """
    found: list[Submission] = []
    invalid: list[int] = []
    for place, line in enumerate(_lines(path), 1):
        try:
            entry = parse_json(line)
        except ValueError:
            invalid += [] if line.startswith(INCOMPLETE) else [place]
            continue
        try:
            _add(entry, found)
        except (ValueError, KeyError, TypeError, OverflowError):
            invalid.append(place)
    if invalid:
        more = f" and {len(invalid) - 1:,} more are" if len(invalid) > 1 else " is"
        tell_once(f"{path}: line {invalid[0]}{more} not what a submission writes; skipped")
    _replace_placeholders(found, path.parent)
    for submission in found:
        if not submission.ended:
            _complete_from_runs(submission, path.parent)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of the file; none if it is missing."""
    try:
        content = read_bytes(path, LARGE)
    except FileNotFoundError:
        return
    yield from content.removesuffix(b"\n").split(b"\n") if content else ()


def _add(entry: Any, found: list[Submission]) -> None:
    """Adds the content of a line to the submissions. Raises ValueError, KeyError or TypeError for an invalid line."""
    name = _checked_name(SWEEP, entry["submission"])
    if entry["event"] == "begin":
        jobs = [[_checked_name(RUN, run) for run in job] for job in entry["jobs"]]
        when, cluster, code = (
            float(entry["time"]),
            _checked_name(SWEEP, entry["cluster"]),
            _checked_name(SWEEP, entry["code"]),
        )
        found.append(Submission(name, when, cluster, code, jobs))
    elif entry["event"] == "end" and (begun := [s for s in found if s.id == name]):
        submission, error = begun[-1], str(entry.get("error", ""))
        job_ids = [_checked_name(JOB, job) if job else "" for job in entry.get("jobs", [])]
        if not error and len(job_ids) != len(submission.jobs):
            raise ValueError
        submission.job_ids, submission.error, submission.ended = job_ids, error, True


def _checked_name(pattern: re.Pattern[str], name: Any) -> str:
    if not fits(pattern, name):
        raise ValueError(f"{name!r} is not a valid name")
    return str(name)


def _replace_placeholders(found: list[Submission], sweep: Path) -> None:
    """Gives each job the runs that its placeholders stand for.

    A run that an earlier submission has given a job already is taken as it is: it is left out. Such a run is a trial
    whose tuning seed is a confirming seed, too, or a confirming run of an earlier choice of the same setting.
    """
    names = {name for s in found for job in s.jobs for name in job if fits(PLACEHOLDER, name)}
    runs = chosen_runs(sweep, names)
    if not runs:
        return
    first: dict[str, str] = {}  # by run: the name by which it first got a job

    def has_it(name: str, accepted: bool) -> bool:
        run = runs.get(name, name)
        if not run or (name in names and first.get(run, name) != name):
            return False
        if accepted:
            first.setdefault(run, name)
        return True

    for submission in found:
        accepted = submission.accepted
        submission.jobs = [[runs.get(n, n) for n in job if has_it(n, accepted)] for job in submission.jobs]


def chosen_runs(sweep: Path, placeholders: set[str]) -> dict[str, str]:
    """The runs of placeholders that wait no more.

    Args:
        sweep: The sweep's folder.
        placeholders: The placeholders.

    Returns:
        The name of the run, by placeholder. "" if no run will replace it, because a later choice holds.
    """
    made: dict[str, list[Choice]] = {}
    runs = {}
    for name in placeholders:
        parsed = parse_placeholder(name)
        assert parsed is not None
        method, number, seed = parsed
        if method not in made:
            made[method] = _choices(sweep, method)
        for choice in made[method]:
            run = choice.runs.get(seed)
            if choice.number == number and run and (sweep / run / "config.yaml").exists():
                runs[name] = run
        if name not in runs and any(choice.number > number for choice in made[method]):
            runs[name] = ""
    return runs


def present_names(sweep: Path, names: Iterable[str]) -> set[str]:
    """The names of runs, each placeholder replaced by its run if that exists by now."""
    names = set(names)
    runs = chosen_runs(sweep, {name for name in names if fits(PLACEHOLDER, name)})
    return {runs.get(name, name) for name in names} - {""}


def _choices(sweep: Path, method: str) -> list[Choice]:
    try:
        return read_choices(sweep, method)
    except (OSError, Unreadable) as error:
        tell_once(f"{error}; the runs of this choice are not known")
        return []


def _complete_from_runs(submission: Submission, sweep: Path) -> None:
    """Sets the job ids of a submission without an end, if one of its runs has started and names its job.

    The ids of an array differ only in the number at their end, so that one id tells the others.
    """
    for number, runs in enumerate(submission.jobs):
        for run in runs:
            job = _started_by(sweep / run / "status.json", submission.id)
            if job:
                array, underscore, _ = job.rpartition("_")
                ids = [f"{array}_{n}" if underscore else "" for n in range(len(submission.jobs))]
                ids[number] = job
                submission.job_ids, submission.ended, submission.told_by_runs = ids, True, True
                return


def _started_by(status: Path, submission: str) -> str:
    """The job that has started a run for this submission; "" if none has."""
    try:
        found = read_status(status)
    except (OSError, ValueError):
        return ""
    return found.job_id if found and found.submission == submission and fits(JOB, found.job_id) else ""


def latest(submissions: list[Submission]) -> dict[str, tuple[Submission, str]]:
    """By run: its last accepted submission, and the id of its job there."""
    return {
        run: (submission, job_id)
        for submission in submissions
        if submission.accepted
        for runs, job_id in zip(submission.jobs, submission.job_ids, strict=True)
        if job_id
        for run in runs
    }


def named_runs(path: Path) -> set[str]:
    """The runs that submissions.jsonl names; none if it can't be read."""
    try:
        return {run for submission in read(path) for job in submission.jobs for run in job}
    except Unreadable:
        return set()


def number(submission: str) -> int:
    """The number of a submission's id: later ones have higher numbers. 0 if the id is none of ours."""
    return int(submission) if submission.isascii() and submission.isdigit() and len(submission) < 10 else 0


def next_number(path: Path) -> int:
    """A new number for a submission. It differs from all others, also from those whose lines can't be read."""
    if not path.exists():
        return 1
    had = [number(found.decode()) for line in _lines(path) for found in ID.findall(line)]
    folder = path.parent / "submissions"
    had += [number(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
    return max(had, default=0) + 1
