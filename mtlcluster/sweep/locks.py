"""Locks on files. The kernel releases a lock when its owner dies, however it dies."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mtlcluster import printable
from mtlcluster.sweep.files import unfollowed


def try_lock(file: int) -> bool:
    """Tries to lock an open file. Also true on file systems without locks: there is no protection there."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_replaced(path: Path, file: int) -> bool:
    """True if the open `file` was removed or replaced at `path`. False if it was only moved."""
    try:
        return not os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return os.fstat(file).st_nlink == 0
    except OSError:  # a file system that does not answer: not known
        return False


def is_locked(path: Path) -> bool:
    """True if a live process holds the lock on `path`. False if the file can't be opened.

    Tries a shared lock: any number of processes may ask at once, and the right to read is enough.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(file)
    return False


@contextmanager
def locked(path: Path, on_wait: Callable[[str], object]) -> Iterator[None]:
    """Holds an exclusive lock on `path`.

    If another process holds it, says so with `on_wait`, and waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", opener=unfollowed) as file:
        if not try_lock(file.fileno()):
            file.seek(0)
            owner = printable.line(file.read(200).strip()) or "another process"
            on_wait(f"waiting for {owner}, which works on {path.parent.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield
