"""Errors of a disk, in words that name the file system. Libraries word them in many ways, or hide them."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

WORDS = {
    errno.ENOSPC: "no space left on",
    errno.EDQUOT: "your quota is used up on",
    errno.EROFS: "only reading is possible on",
    errno.EIO: "input/output error on",
    errno.ESTALE: "stale file handle on",
}


class DiskError(OSError):
    """A disk is full, read-only or broken. `strerror` names the file system, `filename` the file."""

    def __str__(self) -> str:
        return f"{self.strerror} ({self.filename})"


@contextmanager
def naming_the_disk(path: Path) -> Iterator[None]:
    """Surrounds code that reads or writes `path` with any library. Raises DiskError in place of its OSError."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        if error.errno not in WORDS:
            raise
        raise disk_error(error, path) from error


@contextmanager
def open_to_write(place: Path, path: Path) -> Iterator[BinaryIO]:
    """Opens a new file at `place`, whose content will be moved to `path`.

    Raises:
        DiskError: It can't be written. Also if the library that writes turns this into an error of its own.
    """
    with naming_the_disk(path):
        raw = _Remembering(place, "x")
        try:
            with io.BufferedWriter(raw) as file:
                yield file
        except Exception as error:
            if raw.failure is None:
                raise
            raise disk_error(raw.failure, path) from error


class _Remembering(io.FileIO):
    """A file that remembers why writing failed."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def disk_error(error: OSError, path: Path) -> DiskError:
    """The DiskError for an OSError about `path`."""
    words = WORDS.get(error.errno or 0, f"{os.strerror(error.errno or 0).lower()} on")
    return DiskError(error.errno, f"{words} {_file_system(path)}", str(path))


def _file_system(path: Path) -> Path:
    """The folder at which the file system of `path` is mounted."""
    folder = path.absolute().parent
    return next((place for place in (folder, *folder.parents) if place.is_mount()), folder)
