"""Writes and removes files and folders. Whatever is written is complete or absent."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mtlcluster.sweep.disk import naming_the_disk, open_to_write

NO_FILE = "is not a regular file"


def unfollowed(path: str | os.PathLike[str], flags: int) -> int:
    """Opens a regular file for writing or locking, and follows no link. Use it as the `opener` of open.

    A folder that somebody sent may hold a link to one of the user's own files, or a FIFO, at which a process would wait
    forever. To read such a file, see reading.py.

    Raises:
        OSError: The file can't be opened, is a link or is not a regular file.
    """
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        words = {errno.ELOOP: "is a symbolic link, which is not followed", errno.ENXIO: NO_FILE}
        raise OSError(error.errno, words.get(error.errno or 0, error.strerror), os.fspath(path)) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, NO_FILE, os.fspath(path))
    return file


def make_folder(path: Path) -> Path:
    """Makes a folder if it is missing. Raises OSError if it is a link, even to a folder."""
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", os.fspath(path))
    return path


def replace(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """Replaces a file atomically: a reader sees the old file or the new one.

    Args:
        path: The file.
        write: Writes the content to an open file.
        durable: Flush to disk before renaming. Else the file may be incomplete after a power failure.

    Raises:
        DiskError: The disk is full, read-only or broken.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with naming_the_disk(path):
        beside.unlink(missing_ok=True)  # left by a killed process with the same number
    try:
        with open_to_write(beside, path) as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with naming_the_disk(path):
            os.replace(beside, path)
    finally:
        with suppress(OSError):  # a read-only disk, which is reported already
            beside.unlink()


def replace_text(path: Path, text: str, durable: bool = True) -> None:
    """Replaces a file by a text. See replace."""
    replace(path, lambda file: file.write(text.encode()), durable)


def flush(paths: Iterable[Path]) -> None:
    """Flushes many new files to disk, in parallel: the disk then writes its journal once for several."""
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    def fsync(path: Path) -> None:
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(fsync, paths):
            pass


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Makes a hidden folder in `parent`, to build in. Whatever was not renamed out of it is removed afterwards.

    Only one may exist at a time, so the caller holds a lock. What a killed process has left in it is removed.
    """
    folder = make_folder(parent) / ".new"
    remove(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Removes a file, a link (not its target) or a folder with its content, as far as possible."""
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)  # does not follow links either
