"""Sockets by which loader processes hand tensors over. Their names are paths, of which the system takes 107 bytes."""

import multiprocessing.util
import os
import tempfile
from multiprocessing import process
from pathlib import Path

LONGEST = 107 - len("/pymp-12345678/listener-12345678")  # of a temporary folder in which such a name fits
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - multiprocessing makes a folder of its own there


def fit_names() -> None:
    """Lets multiprocessing name its sockets in a short folder where the temporary one is too long: a loader whose
    socket can't be made has no way to say so, and would be waited for for ever. Started processes inherit this.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST or "tempdir" in _config():
        return
    before = tempfile.tempdir
    tempfile.tempdir = next((place for place in SHORT if os.access(place, os.W_OK)), before)
    try:
        multiprocessing.util.get_temp_dir()  # made once, and removed as this process ends
    finally:
        tempfile.tempdir = before


def remove_folder() -> None:
    """For a process that ends without the interpreter's own end."""
    if folder := _config().get("tempdir"):
        for path in Path(folder).glob("listener-*"):
            path.unlink(missing_ok=True)
        Path(folder).rmdir()


def _config() -> dict[str, str]:
    config: dict[str, str] = process.current_process()._config  # type: ignore[attr-defined]
    return config
