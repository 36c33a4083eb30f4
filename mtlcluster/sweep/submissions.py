"""submissions.jsonl: who was to train which runs. One line before and one after each submission.

    {"event": "begin", "submission": id, "time": …, "cluster": "slurm", "code": hash, "jobs": [[run, …], …]}
    {"event": "end", "submission": id, "time": …, "jobs": ["123_0", …]}     or, refused: {…, "error": "…"}

A job that looks after several runs is one inner list. A begin without its end is a submission that was killed between.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.sweep.files import unfollowed


@dataclass
class Submission:
    id: str
    time: float
    cluster: str
    code: str
    jobs: list[list[str]]                                   # the runs of each job
    job_ids: list[str] = field(default_factory=list)        # as the scheduler names them, in the same order
    error: str = ""
    ended: bool = False

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
    """All submissions, oldest first. A line that a killed writer left torn is passed over."""
    found: dict[str, Submission] = {}
    if not path.exists():
        return []
    for line in path.read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not isinstance(entry, dict) or not {"event", "submission"} <= entry.keys():
            continue
        if entry["event"] == "begin":
            found[entry["submission"]] = Submission(
                entry["submission"], entry["time"], entry["cluster"], entry["code"], entry["jobs"]
            )
        elif entry["submission"] in found:
            submission = found[entry["submission"]]
            submission.ended = True
            submission.job_ids = entry.get("jobs", [])
            submission.error = entry.get("error", "")
    return list(found.values())


def latest(submissions: list[Submission]) -> dict[str, tuple[Submission, str]]:
    """Each run's last accepted submission, and the job there that looks after it."""
    return {
        run: (submission, job_id)
        for submission in submissions
        if submission.accepted
        for runs, job_id in zip(submission.jobs, submission.job_ids, strict=True)
        for run in runs
    }
