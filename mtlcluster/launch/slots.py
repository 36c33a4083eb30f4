"""Room for runs: what a worker may start at once. On a cluster its job's share of the node; on this machine the cores
and GPUs that no other run of this user holds, whichever sweep or worker started it.

Imported by the worker: nothing heavy here.
"""

import errno
import fcntl
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mtlcluster.errors import UserError
from mtlcluster.sweep.files import try_lock

COUNTED = "the runs of this machine are counted there"


@dataclass
class Share:
    """What one run got. gpus: for CUDA_VISIBLE_DEVICES; None leaves that as it is.

    files: open descriptors that hold the slots; they are the kernel's to free when all who have them are gone.
    """

    gpus: list[str] | None
    files: tuple[int, ...] = ()
    note: str = ""
    free: Callable[[], None] = field(default=lambda: None)


class Room(Protocol):
    def take(self, cpus: int, gpus: int) -> Share | None:
        """A share for one run, or None while there is no room. Raises OSError where there can never be."""


class JobRoom:
    """A Slurm job's: up to `at_once` runs, each with an equal part of the GPUs that the job was given."""

    def __init__(self, at_once: int) -> None:
        self.places = list(range(at_once))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self.gpus = [gpu for gpu in visible.split(",") if gpu]

    def take(self, cpus: int, gpus: int) -> Share | None:
        if not self.places:
            return None
        place = self.places.pop(0)
        part = self.gpus[place * gpus : (place + 1) * gpus]
        # Some clusters hide the other GPUs by cgroups alone and set no variable.
        return Share(part if part or not gpus else None, free=lambda: self.places.append(place))


class Machine:
    """This machine's: one lock file a core and a GPU. A run takes all that it needs or nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or slots_folder()
        self.cpus = [f"cpu-{core}" for core in sorted(os.sched_getaffinity(0))]
        self.gpus = visible_gpus()
        self.taken: set[str] = set()        # by this worker: their files may be removed under it

    def take(self, cpus: int, gpus: int) -> Share | None:
        """Raises UserError where the slots can't be counted safely."""
        if gpus > len(self.gpus):
            raise OSError(f"it asks for {gpus} GPUs, this machine has {len(self.gpus)}")
        wanted = min(cpus, len(self.cpus))
        with opened(self.folder) as folder, ExitStack() as unused:
            try:
                with os.fdopen(_open_slot(folder, "master"), "w") as master:
                    fcntl.flock(master, fcntl.LOCK_EX)
                    cores = self._hold(folder, self.cpus, wanted, unused)
                    cards = self._hold(folder, [f"gpu-{gpu}" for gpu in self.gpus], gpus, unused)
            except FileNotFoundError:       # the folder is being removed at this very moment
                return None
            if len(cores) < wanted or len(cards) < gpus:
                return None
            unused.pop_all()
        held = {**cores, **cards}
        self.taken |= held.keys()
        note = f"asks for {cpus} cores, more than the {wanted} of this machine" if wanted < cpus else ""
        free = functools.partial(self._free, held)
        return Share([name.removeprefix("gpu-") for name in cards], tuple(held.values()), note, free)

    def _hold(self, folder: int, names: list[str], count: int, unused: ExitStack) -> dict[str, int]:
        """Up to `count` free slots of `names`, each with the open file whose lock holds it; `unused` closes it."""
        held: dict[str, int] = {}
        for name in names:
            if len(held) == count:
                break
            if name in self.taken:
                continue
            file = _open_slot(folder, name.replace("/", "_"))
            if try_lock(file):
                held[name] = file
                unused.callback(os.close, file)
            else:
                os.close(file)
        return held

    def _free(self, held: dict[str, int]) -> None:
        self.taken -= held.keys()
        for file in held.values():
            os.close(file)


def slots_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"mtlcluster-{os.getuid()}"


def refuse_unsafe_folder() -> None:
    """What a worker would meet, before it is started. Raises UserError; makes nothing."""
    path = slots_folder()
    if os.path.lexists(path):
        with opened(path):
            pass


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The folder of the slots, made where it is missing. Others may write beside it, so it is used only if it is this
    user's alone and no link. Raises UserError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        why = "is a link or no folder" if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST) else error.strerror
        raise UserError(f"{path}: {why}; {COUNTED}: remove it, or set TMPDIR to a folder of your own") from None
    try:
        about = os.fstat(folder)
        if about.st_uid != os.getuid():
            raise UserError(f"{path}: belongs to another user; {COUNTED}: set TMPDIR to a folder of your own")
        if about.st_mode & 0o077:
            raise UserError(f"{path}: is open to other users; {COUNTED}: chmod 700 {path}")
        yield folder
    finally:
        os.close(folder)


def _open_slot(folder: int, name: str) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)


def visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them, of those that the caller may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu and gpu != "-1"]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(index) for index in range(count)]
