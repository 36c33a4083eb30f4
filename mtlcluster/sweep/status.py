"""status.json: how far a run is. The worker that trains it is the only writer."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from mtlcluster.sweep.files import replace_text

State = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
ENDED = ("done", "failed", "cancelled", "lost")


@dataclass
class Status:
    """What the worker last knew. Times are Unix seconds, durations seconds."""

    state: State = "queued"                 # `lost` is never written: it is what status derives
    submission: str = ""                    # which submission's worker wrote this
    job_id: str = ""
    host: str = ""
    device: str = ""
    attempt: int = 0                        # how often a worker has started this run
    epoch: int = 0                          # finished epochs
    epochs: int = 0                         # of how many; 0 until known
    step: int = 0                           # optimizer steps
    steps: int = 0
    started: float = 0.0                    # the first attempt
    elapsed: float = 0.0                    # spent running, all attempts together
    seconds_left: float | None = None
    heartbeat: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)      # newest values by series name
    best: dict[str, Any] | None = None      # {"value": "mean_loss", "direction": "min", "number": …, "epoch": …}
    error: str = ""                         # one line, for a failed run
    notes: list[str] = field(default_factory=list)              # e.g. a checkpoint that was passed over
    stops_without_progress: int = 0         # attempts in a row that were stopped before they had saved anything new


def write_status(path: Path, status: Status) -> None:
    replace_text(path, json.dumps({"format": 1, **asdict(status)}, indent=1))


def read_status(path: Path) -> Status | None:
    """The run's status, or None where no worker has touched it yet. Keys of a newer version are passed over.

    Raises ValueError for a file that is torn or that something else wrote.
    """
    try:
        with open(path, "rb", buffering=0) as file:     # of thousands of small files, a buffer takes half the time
            entry = json.loads(file.read())
    except FileNotFoundError:
        return None
    if not isinstance(entry, dict) or entry.get("state") not in get_args(State):
        raise ValueError("not the status of a run")
    known = {key: value for key, value in entry.items() if key in KINDS}
    for key, value in known.items():
        if not isinstance(value, KINDS[key]):
            raise ValueError(f"{key} is {value!r}")
    return Status(**known)


def _kinds(hint: Any) -> tuple[type, ...]:
    """The classes that a value of the field may have; JSON makes no difference between 1 and 1.0."""
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    origin = get_origin(hint) or hint
    return (str,) if origin is Literal else (int, float) if origin is float else (origin,)


KINDS = {f.name: _kinds(f.type) for f in fields(Status)}
