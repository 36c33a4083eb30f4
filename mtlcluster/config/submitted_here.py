"""What this user has submitted from this machine, kept in the user's own state folder: a sweep's folder may have been
sent by anybody, and whatever it says of itself can't be the reason to run its code or to call a host.

    submitted.jsonl, a line each:   {"folder": of a sweep, "token": the content of its file MARK}
                                    {"grids": a folder beside whose grids a cluster file may lie}

The token tells the folder from another one that was put in its place.
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
    """Notes that the user has made a sweep's folder, of a grid in `grid_folder`. Where the note can't be
    kept (a home that is read-only), the user is asked before code of the folder is run, as for anybody else's.
    """
    if not is_mine(folder):
        token = os.urandom(16).hex()
        with suppress(OSError):
            replace_text(folder / MARK, token)
            _note(folder=os.path.realpath(folder), token=token)
    if grid_folder is not None:
        remember_grids(grid_folder)


def remember_grids(folder: Path) -> None:
    """Notes that the user has named a grid in the folder, or a cluster of the cluster file there."""
    if not has_grids(folder):
        with suppress(OSError):
            _note(grids=_whole(folder))


def forget(folder: Path) -> None:
    """Takes back that the user has made the folder: something is in it now that others have made."""
    (folder / MARK).unlink(missing_ok=True)


def is_mine(folder: Path) -> bool:
    """Whether this user has made the folder from here."""
    try:
        token = read_text(folder / MARK, 100)
    except (FileNotFoundError, Unreadable):
        return False
    return any(note.get("folder") == os.path.realpath(folder) and note.get("token") == token for note in _notes())


def has_grids(folder: Path) -> bool:
    """Whether the user has named a grid in the folder. Nothing is looked up there: its name may come from anybody."""
    return any(note.get("grids") == _whole(folder) for note in _notes())


def _whole(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100 - as a sweep's own sweep.yaml has it


def _file() -> Path | None:
    """None where the user has no home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = given if given.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111
    return Path(state, "mtlcluster", "submitted.jsonl") if state.startswith("/") else None


def _notes() -> Iterator[dict[str, Any]]:
    path = _file()
    if path is None:
        return
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):  # torn, by a process that was killed
                if isinstance(note := json.loads(line), dict):
                    yield note


def _note(**note: str) -> None:
    path = _file()
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "a") as file:  # in one piece, whoever else adds a line
            file.write(f"\n{json.dumps(note)}\n")
