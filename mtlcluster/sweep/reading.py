"""Files of a sweep folder, whoever left them and whatever they are. A reader gets what a regular file of a sensible
size holds, or one sentence that names the file. Nothing here waits (for a FIFO's writer, say) or reads without bound.

Imported by the worker: nothing heavy here.
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

from mtlcluster.errors import UserError

SMALL = 2**22  # bytes: what one run, or one grid, has to say
LARGE = 2**28  # of thousands of runs
DEEPEST = 50  # lists and mappings of YAML inside each other; at some thousands its parser crashes
LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")
KINDS = [(stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")]


class Unreadable(UserError, ValueError):
    """A file that is there and can't be used; the message names it and says why. What is not there is another matter:
    FileNotFoundError.
    """


def open_regular(path: Path, links: bool = False) -> BinaryIO:
    """Opens a regular file for reading, unbuffered.

    links: one that is a symbolic link is followed, which only a file of the user's own is. Raises FileNotFoundError, or
    Unreadable.
    """
    return open(_opened(path, None, links)[0], "rb", buffering=0)


def read_bytes(path: Path, most: int, links: bool = False) -> bytes:
    """All of a regular file of at most `most` bytes. See open_regular."""
    file, size = _opened(path, most, links)
    try:
        content = os.read(file, size + 1)
        while len(content) < size and (more := os.read(file, size)):
            content += more
        return content
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    finally:
        os.close(file)


def _opened(path: Path, most: int | None, links: bool) -> tuple[int, int]:
    """The open file, and its size in bytes."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW))
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "is a symbolic link, which is not followed" if path.is_symlink() and not links else error.strerror
        raise Unreadable(f"{path}: {why}") from None
    about = os.fstat(file)
    if stat.S_ISREG(about.st_mode) and (most is None or about.st_size <= most):
        return file, about.st_size
    os.close(file)
    if stat.S_ISREG(about.st_mode):
        raise Unreadable(f"{path}: has {about.st_size:,} bytes, where at most {most:,} make sense")
    what = next((words for fits, words in KINDS if fits(about.st_mode)), "a device")
    raise Unreadable(f"{path}: is {what}, not a file")


def read_text(path: Path, most: int) -> str:
    """Its text; a byte that is none is replaced. See open_regular."""
    return read_bytes(path, most).decode("utf-8", "replace")


def read_json(path: Path, most: int) -> Any:
    """What it holds, in JSON. See open_regular."""
    try:
        return parse_json(read_bytes(path, most))
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from None


def parse_json(content: bytes) -> Any:
    """Raises ValueError for whatever is no JSON. Half a character (a lone surrogate), which no output takes, is
    replaced, as are bytes that are no text.
    """
    try:
        found = json.loads(content.decode("utf-8", "replace"))
        return _whole_characters(found) if b"\\u" in content and LONE_SURROGATE.search(content) else found
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON ({error})" if content else "is empty") from None


def read_yaml_text(path: Path, links: bool = False) -> str:
    """The text of a file that is to be parsed as YAML, once it is sure that the parser will survive it. See
    open_regular.
    """
    try:
        text = read_bytes(path, SMALL, links).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from None
    if sum(map(text.count, "[{-:?")) > DEEPEST and (line := _too_deep(text)):
        raise Unreadable(f"{path}:{line}: nested more than {DEEPEST} levels deep")
    return text


def _too_deep(text: str) -> int:
    """The line, from 1, at which too many lists and mappings are inside each other; 0 where none is."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST + 1:
                return event.start_mark.line + 1 if event.start_mark else 1
    except (yaml.YAMLError, ValueError):  # for whoever parses it to tell
        pass
    return 0


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(inner) for key, inner in value.items()}
    return [_whole_characters(inner) for inner in value] if isinstance(value, list) else value
