"""Runs Slurm's commands (sbatch, squeue, …) so that they take no options from the environment.

Imported by the worker: nothing heavy here.
"""

import os
import subprocess
from collections.abc import Mapping

from mtlcluster.errors import SchedulerError

COMMAND_TIMEOUT = 10.0  # seconds; a controller that hangs must not hang `status`

# Every command of Slurm takes options from variables that begin so, and a job or an `salloc` shell sets many of them.
OPTIONS = (
    *("SLURM_", "_SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_"),
    *("SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SINFO_"),
)
NO_OPTIONS = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}  # which Slurm is meant, and who is asking


def run_slurm(*command: str, timeout: float | None = None) -> str:
    """Runs one of Slurm's commands and returns its output.

    Args:
        command: The command and its arguments.
        timeout: Seconds to wait for it; COMMAND_TIMEOUT if not given.

    Raises:
        SchedulerError: The command is missing, refuses, or takes too long.
    """
    timeout = timeout or COMMAND_TIMEOUT
    environment = without_options(os.environ)
    environment["SLURM_BITSTR_LEN"] = "0"  # or long lists of array tasks end in "..."
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=environment,
        )
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: not found on this machine") from None
    except OSError as error:  # a script of the site's that can't be executed
        raise SchedulerError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]} did not answer within {timeout:.0f} seconds") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise SchedulerError(f"{' '.join(command)[:200]}: {said}")
    return done.stdout


def without_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the variables that give options to Slurm's commands and their jobs.

    Such variables come from elsewhere: a time limit for every job (SBATCH_TIMELIMIT), a filter of the queue
    (SQUEUE_STATES), the size of the job in which the user works (SLURM_NTASKS).
    """
    return {name: v for name, v in environment.items() if not name.startswith(OPTIONS) or name in NO_OPTIONS}
