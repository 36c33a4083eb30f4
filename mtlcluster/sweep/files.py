"""Files that are whole or absent: replaced atomically, checked by their SHA-256, locked while their owner lives."""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mtlcluster import printable
from mtlcluster.sweep.disk import naming_the_disk, open_to_write

NO_FILE = "is no regular file"


def unfollowed(path: str | os.PathLike[str], flags: int) -> int:
    """Opens a regular file to write to or to lock, as an `opener` of open: a folder that somebody sent may hold a link
    to a file of one's own in its place, or a FIFO, at which a process would wait for ever. (reading.py has the way to
    read.) Raises OSError.
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
    """Makes a folder where there is none. Raises OSError for a link, also for one to a folder."""
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", os.fspath(path))
    return path


def replace(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """Writes beside `path`, flushes to disk and renames, so that a reader sees the old file or the new one. One that is
    not durable may be torn after a power failure. Raises DiskError where the disk is at fault, whoever writes.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with naming_the_disk(path):
        beside.unlink(missing_ok=True)  # a killed process's of the same number, for only a new file is ours
    try:
        with open_to_write(beside, path) as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with naming_the_disk(path):
            os.replace(beside, path)
    finally:
        with suppress(OSError):  # of a read-only disk, which has been told
            beside.unlink()


def replace_text(path: Path, text: str, durable: bool = True) -> None:
    replace(path, lambda file: file.write(text.encode()), durable)


def flush(paths: Iterable[Path]) -> None:
    """Makes sure that many new files are on the disk. Side by side: the disk writes its journal once for several."""
    from concurrent.futures import ThreadPoolExecutor  # which a cluster's answer to `look` need not wait for

    def fsync(path: Path) -> None:
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(fsync, paths):
            pass


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder in `parent` to build in; what was not renamed out of it is gone afterwards.

    One at a time, under the caller's lock: what a killed owner has left is removed.
    """
    folder = make_folder(parent) / ".new"
    remove(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it; of a link the link alone. As far as that can be done."""
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)  # which does not follow links either


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write_checksum(path: Path) -> None:
    """Puts `path`'s checksum beside it, in the form that `sha256sum -c` reads."""
    replace_text(checksum_file(path), f"{sha256(path)}  {path.name}\n")


def has_valid_checksum(path: Path) -> bool:
    if not (path.is_file() and checksum_file(path).is_file()):  # a FIFO would be waited for
        return False
    try:
        return checksum_file(path).read_text("utf-8").split()[0] == sha256(path)
    except (OSError, IndexError, UnicodeDecodeError):
        return False


def try_lock(file: int) -> bool:
    """Whether the lock on an open file is ours now. A file system that knows no locks gives it to anybody."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_replaced(path: Path, file: int) -> bool:
    """Whether what is open as `file` was removed, and is perhaps another at `path` now; not if it was only moved."""
    try:
        return not os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return os.fstat(file).st_nlink == 0
    except OSError:  # a file system that is away for a while tells nothing
        return False


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock on `path`. Leaves no trace; a file that can't be opened is held by nobody.

    Asked with a shared lock, so that any number may ask at once, and none but a reader's right is needed.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system that knows no locks
        return False
    finally:
        os.close(file)
    return False


@contextmanager
def locked(path: Path, on_wait: Callable[[str], object]) -> Iterator[None]:
    """Holds an exclusive lock on `path`, which the kernel lets go when its owner dies, however it dies.

    Waits for the present owner after telling `on_wait` who that is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", opener=unfollowed) as file:
        if not try_lock(file.fileno()):
            file.seek(0)
            owner = printable.line(file.read(200).strip()) or "another process"
            on_wait(f"waiting for {owner}, which is at work on {path.parent.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield
