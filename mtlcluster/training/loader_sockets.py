"""Short names for the sockets by which loader processes pass tensors on. The system allows 107 bytes."""

import multiprocessing.util
import os
import tempfile
from multiprocessing import process
from pathlib import Path

LONGEST = 107 - len("/pymp-12345678/listener-12345678")  # bytes of the temporary folder's path
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - multiprocessing makes a folder of its own there


def fit_names() -> None:
    """Makes multiprocessing put its sockets into a short folder if the path of the temporary one is too long.

    A loader that cannot make its socket has no way to report it, and training would wait forever. Processes that are
    started later inherit the folder.
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
    """Removes the folder of the sockets. For a process that ends by os._exit, without the interpreter's cleanup."""
    if folder := _config().get("tempdir"):
        for path in Path(folder).glob("listener-*"):
            path.unlink(missing_ok=True)
        Path(folder).rmdir()


def _config() -> dict[str, str]:
    config: dict[str, str] = process.current_process()._config  # type: ignore[attr-defined]
    return config
