"""Remembers what this user has submitted from this machine, in a file of the user's own state folder.

A sweep's folder may have been sent by anybody. Nothing in it may be the reason to run its code or to call a host.

    submitted.jsonl, one line each:   {"folder": of a sweep, "token": the content of its file MARK}
                                      {"grids": a folder with grids, whose cluster file counts}

The token shows that the folder was not replaced by another one.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.reading import Unreadable, read_text

MARK = ".submitted"


def remember(folder: Path, grid_folder: Path | None = None) -> None:
    """Notes that the user has made a sweep's folder, and submitted a grid of `grid_folder`.

    If the note can't be written (a read-only home), the user is asked before the folder's code runs, as for a
    stranger's.
    """
    if not is_mine(folder):
        token = os.urandom(16).hex()
        with suppress(OSError):
            replace_text(folder / MARK, token)
            _note(folder=os.path.realpath(folder), token=token)
    if grid_folder is not None:
        remember_grids(grid_folder)


def remember_grids(folder: Path) -> None:
    """Notes that the user has named a grid in the folder, or a cluster of its cluster file."""
    if not has_grids(folder):
        with suppress(OSError):
            _note(grids=_whole(folder))


def forget(folder: Path) -> None:
    """Withdraws the note on a sweep's folder: it now holds something that others have made."""
    (folder / MARK).unlink(missing_ok=True)


def is_mine(folder: Path) -> bool:
    """True if this user has made the sweep's folder from this machine."""
    try:
        token = read_text(folder / MARK, 100)
    except (FileNotFoundError, Unreadable):
        return False
    return any(note.get("folder") == os.path.realpath(folder) and note.get("token") == token for note in _notes())


def has_grids(folder: Path) -> bool:
    """True if the user has named a grid in the folder. The folder is not opened: its name may come from anybody."""
    return any(note.get("grids") == _whole(folder) for note in _notes())


def _whole(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100 - as a sweep's own sweep.yaml has it


def _file() -> Path | None:
    """The file of notes; None if the user has no home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = given if given.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111
    return Path(state, "mtlcluster", "submitted.jsonl") if state.startswith("/") else None


def _notes() -> Iterator[dict[str, Any]]:
    path = _file()
    if path is None:
        return
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):  # a line that a killed process has left incomplete
                if isinstance(note := json.loads(line), dict):
                    yield note


def _note(**note: str) -> None:
    path = _file()
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "a") as file:  # each line is written at once: others may add lines, too
            file.write(f"\n{json.dumps(note)}\n")
