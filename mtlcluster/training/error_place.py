"""Describes an error in one line, with the place in the user's code, not the one in torch."""

import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import mtlcluster
from mtlcluster.sweep.disk import WORDS, DiskError, disk_error

LIBRARY = Path(mtlcluster.__file__).parent
STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
INSTALLED = {"site-packages", "dist-packages"}
FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
LOADING = "Original Traceback (most recent call last):"  # stands in the message when a data loader's process failed
LONGEST = 300


def sentence(error: BaseException, root: Path, build: Callable[..., Any] | None = None) -> str:
    """An error and its place in one line, such as `ValueError: too few (jobs/digits.py:12)`.

    Args:
        error: the error.
        root: paths are relative to it.
        build: the job's function. It is named if no line of the user's code was running, but a module that it made.
    """
    return _words(error) + place(error, root, build)


def place(error: BaseException, root: Path, build: Callable[..., Any] | None = None) -> str:
    """The place in brackets, such as ` (jobs/digits.py:12)`; "" for messages of our own. See `sentence`."""
    found = _place(error, root, build)
    return f" ({found})" if found else ""


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of an error, beginning with the first one in the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if _is_users(frame.filename)), len(frames))
    return list(frames[first:])


def _words(error: BaseException) -> str:
    """The kind of the error and the first line of its message; errors of our own have their whole message."""
    if isinstance(error, OSError) and error.errno in WORDS and error.filename and not isinstance(error, DiskError):
        error = disk_error(error, Path(os.fsdecode(error.filename)))
    text = _text(error)
    if LOADING in text:
        text = FRAME.split(text)[-1]
        lines = text.splitlines()[1:]
        first = next((i for i, line in enumerate(lines) if line[:1].strip()), None)
        return _opening(lines[first or 0 :])[:LONGEST]
    if type(error).__module__.startswith("mtlcluster."):
        return text
    if isinstance(error, SyntaxError):
        text = error.msg
    said = _opening(text.splitlines())
    return f"{type(error).__name__}{': ' if said else ''}{said}"[:LONGEST]


def _opening(lines: list[str]) -> str:
    """The first line that is not blank, and the next one if it ends with a colon."""
    said = [line.strip() for line in lines if line.strip()]
    return " ".join(said[: 2 if said and said[0].endswith(":") else 1])


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of the user's code
        return ""


def _place(error: BaseException, root: Path, build: Callable[..., Any] | None) -> str:
    for one in _chain(error):
        if isinstance(one, SyntaxError) and one.filename and _is_users(one.filename):
            return f"{_seen_from(root, one.filename)}:{one.lineno}"
        if LOADING in (text := _text(one)):
            frames = [(file, int(line)) for file, line in FRAME.findall(text)]
        else:
            frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(one.__traceback__)]
        users = [(file, line) for file, line in frames if _is_users(file)]
        if users:
            file, line = users[-1]
            return f"{_seen_from(root, file)}:{line}"
    frames = [(f.filename, 0) for f in traceback.extract_tb(error.__traceback__)]
    if build is None or not frames or Path(frames[-1][0]).is_relative_to(LIBRARY):
        return ""  # one of our own messages to the user
    made = _definition(build, root)
    part = _part(error.__traceback__)
    return f"in {part}, which {made} makes" if part else f"with what {made} makes"


def _definition(build: Callable[..., Any], root: Path) -> str:
    code = inspect.unwrap(build.func if isinstance(build, partial) else build).__code__
    return f"{_seen_from(root, code.co_filename)}:{code.co_firstlineno}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields the error and its causes: an error of a library may hide the user's."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _part(trace: TracebackType | None) -> str:
    """The innermost module of the model that was running, such as `trunk.0 (Linear)`, or the loss of a task."""
    from torch import nn

    from mtlcluster.problem import MultiTaskModel, Task

    model: nn.Module | None = None
    innermost: nn.Module | Task | None = None
    while trace is not None:
        found = trace.tb_frame.f_locals
        owner, task = found.get("self"), found.get("task", getattr(found.get("self"), "task", None))
        if isinstance(owner, MultiTaskModel):
            model = innermost = owner
        elif model is not None and isinstance(owner, nn.Module):
            innermost = owner
        elif model is None and isinstance(task, Task):
            innermost = task
        trace = trace.tb_next
    if isinstance(innermost, Task):
        return f"the loss of task '{innermost.name}'"
    if innermost is None or model is None:
        return ""
    name = next((name for name, module in model.named_modules() if module is innermost), "")
    return f"{name} ({type(innermost).__name__})" if name else type(innermost).__name__


def _is_users(file: str) -> bool:
    if file.startswith("<"):  # made by exec or frozen
        return False
    path = Path(file).absolute()
    if INSTALLED & set(path.parts):
        return False
    torch = getattr(sys.modules.get("torch"), "__file__", None)  # it may have been built here
    folders = (LIBRARY, *STANDARD, *([Path(torch).parent] if torch else []))
    return not any(path.is_relative_to(folder) for folder in folders)


def _seen_from(root: Path, file: str) -> str:
    path, root = Path(file).resolve(), root.resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
