"""Room for runs: what a worker may start at once. On a cluster its job's share of the node; on this machine the cores
and GPUs that no other run of this user holds, whichever sweep or worker started it.

Imported by the worker: nothing heavy here.
"""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mtlcluster.errors import UserError
from mtlcluster.sweep.files import try_lock


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
        self.folder = folder or Path(tempfile.gettempdir()) / f"mtlcluster-{os.getuid()}"
        self.cpus = [f"cpu-{core}" for core in sorted(os.sched_getaffinity(0))]
        self.gpus = visible_gpus()
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: {error.strerror}; the runs of this machine are counted there") from None
        if self.folder.stat().st_uid != os.getuid():
            raise UserError(f"{self.folder} belongs to another user; set TMPDIR to a folder of your own")

    def take(self, cpus: int, gpus: int) -> Share | None:
        if gpus > len(self.gpus):
            raise OSError(f"it asks for {gpus} GPUs, this machine has {len(self.gpus)}")
        wanted = min(cpus, len(self.cpus))
        with open(self.folder / "master", "w") as master:
            fcntl.flock(master, fcntl.LOCK_EX)
            cores = self._hold(self.cpus, wanted)
            cards = self._hold([f"gpu-{gpu}" for gpu in self.gpus], gpus)
        held = [*cores.values(), *cards.values()]
        if len(cores) < wanted or len(cards) < gpus:
            _close(held)
            return None
        note = f"asks for {cpus} cores, more than the {wanted} of this machine" if wanted < cpus else ""
        return Share([name.removeprefix("gpu-") for name in cards], tuple(held), note, free=lambda: _close(held))

    def _hold(self, names: list[str], count: int) -> dict[str, int]:
        """Up to `count` free slots of `names`, each with the open file whose lock holds it."""
        held: dict[str, int] = {}
        for name in names:
            if len(held) == count:
                break
            file = os.open(self.folder / name.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o600)
            if try_lock(file):
                held[name] = file
            else:
                os.close(file)
        return held


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


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
