"""Job ids of workers on this machine: `local:<boot>:<pid>:<start time>`. Slurm's jobs have a number instead."""

import os
from pathlib import Path


def local_job_id(pid: int) -> str:
    """The id of the worker with this process id. Raises OSError where there is no such process.

    Process ids are given again: the start time tells two processes apart that had the same one in this boot.
    """
    return f"local:{this_boot()}:{pid}:{state_and_start_time(pid)[1]}"


def this_boot() -> str:
    """Identifies this boot of this machine. Where the kernel hides that, the host's name, which may change."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def state_and_start_time(pid: int | str) -> tuple[str, str]:
    """The state of a process, a letter such as R or Z, and its start in clock ticks since the boot. Raises OSError."""
    # The name, in parentheses, may hold blanks. Behind it are fields 3 (state) to 22 (start time) and more.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]
