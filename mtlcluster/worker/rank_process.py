"""Starts and ends a training process (a rank). The worker and the keepers use it."""

import contextlib
import os
import signal
import subprocess
import sys

from mtlcluster import _entry

GRACE = 10.0  # seconds that the other ranks get to end by themselves after one has; then they are killed

# By these torch.distributed knows its place. torchrun, if `submit` ran under it, sets the last one for another store.
TORCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TORCHRUN = "TORCHELASTIC_USE_AGENT_STORE"
# These bind threads of OpenMP to cores, for a program that has the node for itself. With them all runs of a node, and
# their data loaders, would share its first core.
BINDING = {
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"),
    *("KMP_AFFINITY", "KMP_HW_SUBSET", "KMP_PLACE_THREADS", "KMP_TOPOLOGY_METHOD", "KMP_HIDDEN_HELPER_AFFINITY"),
}
LEFT_OUT = {*TORCH, TORCHRUN, *BINDING}


def command(folder: str, report_fd: int, *held: int) -> list[str]:
    """The command line of a rank; training/commands/child.py describes its arguments."""
    return [sys.executable, *_entry.python_arguments("child"), folder, *map(str, (report_fd, *held))]


def without_ranks() -> dict[str, str]:
    """This process's environment without its variables about ranks and about binding threads to cores."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}


def ignore_signals() -> None:
    """Makes the process ignore signals before it runs Python. A rank is told to stop by the worker alone."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kills a rank and its helpers, such as data loaders."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
