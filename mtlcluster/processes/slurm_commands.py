"""Calls Slurm's commands, without the options that the caller's environment holds for them."""

import os
import subprocess
from collections.abc import Mapping

from mtlcluster.errors import SchedulerError

PATIENCE = 10.0  # seconds; a controller that hangs must not hang `status`

# Every command of Slurm takes options from variables that begin so. A job or an `salloc` shell sets many of them.
OPTIONS = (
    *("SLURM_", "_SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_"),
    *("SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SINFO_"),
)
NO_OPTIONS = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}  # these say which Slurm is meant, and who is asking


def run_slurm(*command: str, patience: float = PATIENCE) -> str:
    """The output of one of Slurm's commands. Raises SchedulerError where it is missing, refuses, or takes too long."""
    environment = without_options(os.environ)
    environment["SLURM_BITSTR_LEN"] = "0"  # or long lists of array tasks end in "..."
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=patience,
            env=environment,
        )
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: not found on this machine") from None
    except OSError as error:  # a script of the site's that can't be executed
        raise SchedulerError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]} did not answer within {patience:.0f} seconds") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise SchedulerError(f"{' '.join(command)[:200]}: {said}")
    return done.stdout


def without_options(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment from which Slurm's commands, and the jobs that they start, take no options of somebody else's: a
    time limit for every job (SBATCH_TIMELIMIT), a filter of the queue (SQUEUE_STATES), the size of the job in which
    one types (SLURM_NTASKS).
    """
    return {name: v for name, v in environment.items() if not name.startswith(OPTIONS) or name in NO_OPTIONS}
