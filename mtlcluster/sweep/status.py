"""status.json: how far a run is. Only the worker that trains the run writes it."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from mtlcluster.errors import shown
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.pruning import is_rung
from mtlcluster.sweep.reading import SMALL, Unreadable, read_json

State = Literal["queued", "running", "done", "failed", "cancelled", "pruned", "lost"]
FORMAT = 1
LARGEST = 2**53  # the largest integer that every reader of JSON reads exactly
ENDED = ("done", "failed", "cancelled", "pruned", "lost")
UNDEFINED = " is undefined: "  # in a note on a metric that the labels leave undefined, before the reason


@dataclass
class Status:
    """The last state of a run. Times are Unix seconds, durations are seconds."""

    state: State = "queued"  # `lost` is never written: run_status.py derives it
    submission: str = ""  # the submission whose worker wrote this
    job_id: str = ""
    host: str = ""
    device: str = ""
    attempt: int = 0  # how often a worker has started this run
    epoch: int = 0  # finished epochs
    epochs: int = 0  # the number of epochs to train; 0 until known
    step: int = 0  # optimizer steps
    steps: int = 0
    started: float = 0.0  # start of the first attempt
    elapsed: float = 0.0  # running time of all attempts
    seconds_left: float | None = None
    heartbeat: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)  # newest values by series name
    best: dict[str, Any] | None = None  # {"value": "mean_loss", "direction": "min", "number": …, "epoch": …}
    error: str = ""  # one line, for a failed run
    notes: list[str] = field(default_factory=list)  # such as a checkpoint that was skipped
    rungs: list[dict[str, Any]] = field(default_factory=list)  # of a trial: its values there, see pruning.py
    stops_without_progress: int = 0  # successive attempts that were stopped before they saved anything new


def write_status(path: Path, status: Status) -> None:
    """Replaces status.json atomically."""
    replace_text(path, json.dumps({"format": FORMAT, **asdict(status)}, indent=1))


def read_status(path: Path) -> Status | None:
    """Reads status.json. None if no worker has started the run yet. Keys of a newer version are ignored.

    Raises:
        Unreadable: The file is damaged, or something else wrote it.
    """
    try:
        entry = read_json(path, SMALL)
    except FileNotFoundError:
        return None
    if not isinstance(entry, dict):
        raise Unreadable(f"{path}: is not the status of a run")
    if (format_ := entry.get("format", FORMAT)) != FORMAT:
        raise Unreadable(f"{path}: is of format {shown(format_)}, this version of mtlcluster reads {FORMAT}")
    known = {key: value for key, value in entry.items() if key in KINDS}
    if wrong := misfit(known, KINDS):
        raise Unreadable(f"{path}: {wrong}")
    if damaged := [rung for rung in known.get("rungs", []) if not is_rung(rung)]:
        raise Unreadable(f"{path}: {shown(damaged[0])} in rungs is no value at a rung")
    return Status(**known)


def kinds(of: type) -> dict[str, tuple[type, ...]]:
    """The classes that each field of a dataclass accepts. A float may be an int: JSON does not tell 1 from 1.0."""
    return {f.name: _kinds(f.type) for f in fields(of)}


def misfit(values: dict[str, Any], admitted: dict[str, tuple[type, ...]]) -> str:
    """The mistake in a run's values from JSON: an unknown state or a wrong type. "" if there is none."""
    for key, value in values.items():
        of_kind = isinstance(value, admitted[key]) and (type(value) is not bool or bool in admitted[key])
        if not of_kind or not is_plain(value):
            return f"{key} is {shown(value)}"
    known = values.get("state") in get_args(State)
    return "" if known else f"state is {shown(values.get('state'))}, which this version of mtlcluster does not know"


def is_plain(value: Any, deepest: int = 3) -> bool:
    """True for a text, a number of sensible size, or lists and mappings of these, at most `deepest` levels deep."""
    if isinstance(value, str | float | bool | None):
        return True
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return deepest > 0 and all(is_plain(v, deepest - 1) for v in inner)
    return type(value) is int and abs(value) <= LARGEST


def _kinds(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    origin = get_origin(hint) or hint
    return (str,) if origin is Literal else (int, float) if origin is float else (origin,)


KINDS = kinds(Status)
