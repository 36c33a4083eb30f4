"""Reads files of a sweep folder safely, whoever made them.

A reader gets the content of a regular file of a sensible size, or one sentence that names the file. Nothing here waits,
for example for the writer of a FIFO, or reads without a limit. The worker imports this module: nothing here is slow to
import.
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

from mtlcluster.errors import UserError

SMALL = 2**22  # bytes: the most for one run or one grid
LARGE = 2**28  # bytes: the most for thousands of runs
DEEPEST = 50  # levels of nested lists and mappings in YAML; at some thousands its parser crashes
LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")
KINDS = [(stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")]


class Unreadable(UserError, ValueError):
    """A file exists and can't be used. The message names it and says why. A missing file is a FileNotFoundError."""


def open_regular(path: Path, links: bool = False) -> BinaryIO:
    """Opens a regular file for reading, unbuffered.

    Args:
        path: The file.
        links: Follow a symbolic link. Only for a file that the user names.

    Raises:
        FileNotFoundError: The file is missing.
        Unreadable: It can't be opened, is a link or is not a regular file.
    """
    return open(_opened(path, None, links)[0], "rb", buffering=0)


def read_bytes(path: Path, most: int, links: bool = False) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises as open_regular does."""
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
    """The descriptor of the open file, and its size in bytes. most: the largest size allowed; None: any."""
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
    """The text of a file of at most `most` bytes. Invalid UTF-8 is replaced. Raises as open_regular does."""
    return read_bytes(path, most).decode("utf-8", "replace")


def read_json(path: Path, most: int) -> Any:
    """The value of a JSON file of at most `most` bytes. Raises as open_regular, and Unreadable for invalid JSON."""
    try:
        return parse_json(read_bytes(path, most))
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from None


def parse_json(content: bytes) -> Any:
    """The value of a JSON text. Replaces bytes that are not UTF-8, and lone surrogates, which can't be printed.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        found = json.loads(content.decode("utf-8", "replace"))
        return _whole_characters(found) if b"\\u" in content and LONE_SURROGATE.search(content) else found
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON ({error})" if content else "is empty") from None


def read_yaml_text(path: Path, links: bool = False) -> str:
    """The text of a YAML file that is safe to parse: not nested so deeply that the parser would crash.

    Raises as open_regular does, and Unreadable if it is not UTF-8 or nested too deeply.
    """
    try:
        text = read_bytes(path, SMALL, links).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from None
    if sum(map(text.count, "[{-:?")) > DEEPEST and (line := _too_deep(text)):
        raise Unreadable(f"{path}:{line}: nested more than {DEEPEST} levels deep")
    return text


def _too_deep(text: str) -> int:
    """The line, from 1, at which YAML is nested too deeply; 0 if none is."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST + 1:
                return event.start_mark.line + 1 if event.start_mark else 1
    except yaml.MarkedYAMLError as error:  # from version 6.0.4 on, PyYAML itself refuses about 1,000 levels
        if "nesting depth" in str(error.problem):
            return error.problem_mark.line + 1 if error.problem_mark else 1
    except (yaml.YAMLError, ValueError):
        pass  # whoever parses the text reports it
    return 0


def _whole_characters(value: Any) -> Any:
    """The value with lone surrogates replaced in all its texts."""
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(inner) for key, inner in value.items()}
    return [_whole_characters(inner) for inner in value] if isinstance(value, list) else value
