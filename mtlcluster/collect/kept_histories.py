"""What was read of the histories, kept for the next `collect`: that one then reads only the new ones.

It lies in `report/.histories/`: `runs.json` has everything but the points of the curves, `points.npy` has these. The
folder may come from somebody else: both are checked as a history is, and left aside if anything is wrong.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np

from mtlcluster.collect.read_histories import (
    BEST,
    LARGEST,
    Array,
    Curve,
    FinishedRun,
    OmittedRun,
    points_of,
    read_run,
    split,
)
from mtlcluster.collect.report_folder import make_cache_folder
from mtlcluster.collect.run_list import ListedRun
from mtlcluster.sweep.files import replace, replace_text
from mtlcluster.sweep.reading import open_regular, read_bytes

RUNS, POINTS = "runs.json", "points.npy"
MOST = 2**30  # bytes of each file
MANY_ENOUGH = 100  # runs; fewer are read in an instant
Places = dict[str, tuple[Literal["step", "epoch"], int, int, int]]  # by curve: its axis, where x and y begin, how many


@dataclass(frozen=True)
class Kept:
    """What was read of one run.

    Attributes:
        seen: What it was read from, see `_seen`.
        run: What was read.
    """

    seen: str
    run: FinishedRun | OmittedRun


def read_new(
    listed: list[ListedRun], folder: Path, code: str, advance: Callable[[], object]
) -> tuple[list[FinishedRun], list[OmittedRun]]:
    """Reads the histories as `read_histories` does, but only those that have changed since the last time.

    Args:
        listed: All runs of the sweep.
        folder: `report/.histories`.
        code: The hash of the code: what other code has read is read again.
        advance: Called after each run.
    """
    points = points_of(len(listed))
    key, found = f"{code} {points}", list[FinishedRun | OmittedRun]()
    kept = read_kept(folder, key) if folder.exists() else {}
    for entry in listed:
        before = kept.get(entry.run.name)
        if before and before.seen == _seen(entry):
            found.append(before.run)
            advance()
        else:
            found.append(read_run(entry, points, advance))
    if len(listed) >= MANY_ENOUGH:
        with_history = [(entry, run) for entry, run in zip(listed, found, strict=True) if entry.history]
        write_kept(folder, key, with_history)
    return split(found)


def _seen(listed: ListedRun) -> str:
    """A hash of what shows whether a run is still as it was: its state and error, and its history's size and time."""
    return hashlib.sha256(json.dumps([listed.state, listed.error, listed.history]).encode()).hexdigest()


def read_kept(folder: Path, key: str) -> dict[str, Kept]:
    """Reads what was kept, by the name of the run.

    Args:
        folder: `report/.histories`.
        key: What has made it, see `write_kept`. Nothing is read if it was another.
    """
    try:
        if folder.is_symlink():
            return {}
        text = read_bytes(folder / RUNS, MOST).decode()
        if not text.startswith(json.dumps({"key": key})[:-1]) or not text.isprintable() or "\\u" in text:
            return {}  # everything that is shown was made printable, and it is written without escapes
        with open_regular(folder / POINTS) as file:
            points = np.load(file, allow_pickle=False)
        return _checked(text, points)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError):
        return {}


def _checked(text: str, points: Array) -> dict[str, Kept]:
    if points.dtype != np.float64 or points.ndim != 1 or np.any(np.abs(points) >= LARGEST):
        raise ValueError("these are not the points of curves")
    axes: dict[tuple[int, int], Array] = {}

    def part(start: int, count: int) -> Array:
        if start < 0 or count < 1 or start + count > len(points):
            raise ValueError("a curve lies outside of the points")
        return points[start : start + count]

    def axis(start: int, count: int) -> Array:
        if (start, count) not in axes:
            x = axes[start, count] = part(start, count)
            if not (x[0] >= 0 and np.all(x[1:] >= x[:-1])):
                raise ValueError("an axis does not go up from 0")
        return axes[start, count]

    found = {}
    for entry in _form()(text)["runs"]:
        run, curves = entry["finished"] or entry["omitted"], entry["curves"]
        if run["best"] is not None and {k: type(v) for k, v in run["best"].items()} != BEST:
            raise ValueError("a best value is none")
        if entry["finished"]:
            if not isinstance(run["config"]["method"]["schedule"]["name"], str):
                raise TypeError("a method has no schedule")
            if any(way not in ("min", "max") for task in run["tasks"] for way in task.metrics.values()):
                raise ValueError("a metric has no direction")
            drawn = {k: Curve(on, axis(x, count), part(y, count)) for k, (on, x, y, count) in curves.items()}
            found[run["name"]] = Kept(entry["seen"], FinishedRun(**run, curves=drawn))
        else:
            found[run["name"]] = Kept(entry["seen"], OmittedRun(**run))
    return found


def _form() -> Callable[[str], Any]:
    """Reads and checks runs.json. The fields are those of the classes, so that nothing is said twice."""
    from pydantic import TypeAdapter
    from typing_extensions import TypedDict

    def plain(kind: type) -> Any:
        hints = {name: hint for name, hint in get_type_hints(kind).items() if name != "curves"}
        return TypedDict(kind.__name__, hints)  # type: ignore[operator]

    entry = {
        "seen": str, "curves": Places,
        "finished": plain(FinishedRun) | None, "omitted": plain(OmittedRun) | None,
    }  # fmt: skip
    form: Any = TypedDict("Entry", entry)  # type: ignore[misc]
    adapter: TypeAdapter[Any] = TypeAdapter(dict[str, list[form] | str])
    return lambda text: adapter.validate_json(text, strict=True)


def write_kept(folder: Path, key: str, entries: Iterable[tuple[ListedRun, FinishedRun | OmittedRun]]) -> None:
    """Replaces what was kept.

    Args:
        folder: `report/.histories`.
        key: What has made it: the code, and how many points are kept of a curve.
        entries: The runs whose training is over, each with what was read.
    """
    arrays: list[Array] = []
    begins: dict[bytes, int] = {}
    length = 0

    def place(array: Array, shared: bool) -> int:
        nonlocal length
        content = array.tobytes() if shared else b""
        if shared and content in begins:
            return begins[content]
        begin, length = length, length + len(array)
        arrays.append(array)
        if shared:
            begins[content] = begin
        return begin

    runs = []
    for listed, run in entries:
        finished = isinstance(run, FinishedRun)
        curves = run.curves if isinstance(run, FinishedRun) else {}
        places = {k: (c.axis, place(c.x, True), place(c.y, False), len(c.y)) for k, c in curves.items()}
        plain = {f.name: getattr(run, f.name) for f in fields(run) if f.name != "curves"}
        runs.append(
            {"seen": _seen(listed), "curves": places, "finished": plain if finished else None,
             "omitted": None if finished else plain}
        )  # fmt: skip
    make_cache_folder(folder)
    (folder / RUNS).unlink(missing_ok=True)  # a kill before the end leaves nothing that does not fit together
    whole = np.concatenate(arrays) if arrays else np.zeros(0)
    replace(folder / POINTS, lambda file: np.save(file, whole))
    replace_text(folder / RUNS, json.dumps({"key": key, "runs": runs}, default=asdict, ensure_ascii=False))
