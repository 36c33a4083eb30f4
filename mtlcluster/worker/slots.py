"""Room for runs: the CPUs and GPUs that a worker may give them, and the number that it may start at once.

In a Slurm job, these are the job's own. On this machine, they are the cores and GPUs that no other run of this user
holds, whichever worker started it.
"""

import errno
import fcntl
import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mtlcluster.errors import UserError
from mtlcluster.sweep.locks import try_lock

SETUP_FAILED = "setup: "  # so begins a note about lines of a cluster's `setup` that have failed
COUNTED = "the runs of this machine are counted there"


@dataclass
class Allocation:
    """The CPUs and GPUs that one run got.

    Attributes:
        gpus: The entries of CUDA_VISIBLE_DEVICES. None leaves the variable as it is.
        files: Open files whose locks hold the slots. The kernel frees a slot when all processes with its file are gone.
        note: A line for the user, or ''.
        free: Gives the allocation back.
    """

    gpus: list[str] | None
    files: tuple[int, ...] = ()
    note: str = ""
    free: Callable[[], None] = field(default=lambda: None)


class Room(Protocol):
    """The room of a worker: the CPUs and GPUs that it gives to runs."""

    def take(self, cpus: int, gpus: int) -> Allocation | None:
        """Takes CPUs and GPUs for one run. Returns None while there is no room; raises OSError if there never is."""


class JobRoom:
    """The room of a Slurm job: up to `at_once` runs, each with its own GPUs among those of the job."""

    def __init__(self, at_once: int) -> None:
        self.places = at_once
        # Some clusters set no variable, and hide the other jobs' GPUs by cgroups alone. A single run then uses all that
        # it sees. Several runs need GPUs of their own; nvidia-smi lists them if they are NVIDIA's.
        is_told = "CUDA_VISIBLE_DEVICES" in os.environ
        self.gpus = visible_gpus() if is_told or at_once > 1 else []
        self.given = len(self.gpus)
        self.is_known = is_told or self.given > 0
        failed = os.environ.get("MTLCLUSTER_SETUP_FAILED", "")
        self.note = f"{SETUP_FAILED}{failed}" if failed else ""

    def take(self, cpus: int, gpus: int) -> Allocation | None:
        if self.is_known and gpus > self.given:
            raise OSError(f"it asks for {gpus} GPU{'s' * (gpus != 1)}, its job was given {self.given}")
        if not self.places or (self.is_known and gpus > len(self.gpus)):
            return None
        self.places -= 1
        part, self.gpus = self.gpus[:gpus], self.gpus[gpus:]
        return Allocation(part if self.is_known or not gpus else None, note=self.note, free=lambda: self._free(part))

    def _free(self, gpus: list[str]) -> None:
        self.places += 1
        self.gpus = gpus + self.gpus


class Machine:
    """The room of this machine: a lock file for each core and each GPU. A run takes all that it needs, or nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or slots_folder()
        self.cpus = [f"cpu-{core}" for core in sorted(os.sched_getaffinity(0))]
        self.gpus = {f"gpu-{slot}": gpu for slot, gpu in zip(*_slots_of_gpus(), strict=True)}
        self.taken: set[str] = set()  # by this worker; somebody may remove their files meanwhile

    def take(self, cpus: int, gpus: int) -> Allocation | None:
        """See Room.take. Raises UserError if the slots can't be counted safely."""
        if gpus > len(self.gpus):
            raise OSError(f"it asks for {gpus} GPU{'s' * (gpus != 1)}, this machine has {len(self.gpus)}")
        wanted = min(cpus, len(self.cpus))
        with opened(self.folder) as folder, ExitStack() as unused:
            try:
                with os.fdopen(_open_slot(folder, "master"), "w") as master:
                    fcntl.flock(master, fcntl.LOCK_EX)
                    cores = self._hold(folder, self.cpus, wanted, unused)
                    cards = self._hold(folder, list(self.gpus), gpus, unused)
            except FileNotFoundError:  # somebody is removing the folder right now
                return None
            if len(cores) < wanted or len(cards) < gpus:
                return None
            unused.pop_all()
        held = {**cores, **cards}
        self.taken |= held.keys()
        note = f"asks for {cpus} cores, more than the {wanted} of this machine" if wanted < cpus else ""
        free = functools.partial(self._free, held)
        return Allocation([self.gpus[name] for name in cards], tuple(held.values()), note, free)

    def _hold(self, folder: int, names: list[str], count: int, unused: ExitStack) -> dict[str, int]:
        """Takes up to `count` free slots.

        Args:
            folder: The open folder of the slots.
            names: The slots to choose from.
            count: The number that is wanted.
            unused: Closes the files again.

        Returns:
            The open file whose lock holds the slot, by the slot's name.
        """
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
    import tempfile  # slow: `status` imports this module, and needs none

    return Path(tempfile.gettempdir()) / f"mtlcluster-{os.getuid()}"


def refuse_unsafe_folder() -> None:
    """Raises the UserError that a worker would meet with the folder as it is now. Makes nothing."""
    path = slots_folder()
    if os.path.lexists(path):
        with opened(path):
            pass


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Opens the folder of the slots, and makes it if it is missing.

    It lies where other users may write. Raises UserError unless it is this user's alone, and no link.
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
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1", "NoDevFiles")]
    return _names(_installed())


def _names(installed: list[list[str]]) -> list[str]:
    """All installed GPUs: their numbers; or UUIDs if one is divided, because its instances (MIG) have no number."""
    if all(len(gpu) == 1 for gpu in installed):
        return [str(number) for number in range(len(installed))]
    return [name for gpu in installed for name in gpu[1:] or gpu]


def _slots_of_gpus() -> tuple[list[str], list[str]]:
    """The names of the visible GPUs' locks, and of the GPUs. In another shell the same GPU may have another name."""
    visible, installed = visible_gpus(), _installed()
    numbers = {gpu[0]: str(number) for number, gpu in enumerate(installed)}

    def slot(name: str) -> str:
        """The GPU's number, if it has one. `name` may be the beginning of a UUID."""
        meant = [number for uuid, number in numbers.items() if name.startswith("GPU-") and uuid.startswith(name)]
        return meant[0] if len(meant) == 1 else name

    return [slot(name) for name in visible], visible


@functools.cache
def _installed() -> list[list[str]]:
    """The UUIDs of each GPU and of its instances (MIG), in the driver's order."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    found: list[list[str]] = []
    for line in listed.splitlines():
        uuid = line.rpartition("UUID: ")[2].rstrip(") ")
        if line.startswith("GPU "):
            found.append([uuid])
        elif line.lstrip().startswith("MIG ") and found:
            found[-1].append(uuid)
    return found
