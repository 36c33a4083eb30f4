"""`submit` in a process of its own, killed at a named point: killed_submit.py GRID RUNS POINT. Prints how many runs it
submitted, if it lives."""

import os
import signal
import sys
from pathlib import Path

from mtlcluster.config.grid import read_grid
from mtlcluster.launch import sweep_file
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.executors import slurm
from mtlcluster.launch.submit import submit
from mtlcluster.sweep import submissions

grid, runs_folder, point = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


def die_around(owner, name, number, *, after):
    """Kills this process before or after the call number `number` of a function."""
    function, calls = getattr(owner, name), []

    def wrapped(*arguments, **keywords):
        calls.append(name)
        if len(calls) == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **keywords)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


match point:
    case "code kept":
        die_around(snapshot, "keep", 1, after=True)
    case "grid written":
        die_around(sweep_file, "write_sweep_file", 1, after=True)
    case "first run in place":
        die_around(Path, "rename", 3, after=False)  # the code's, and the first run's, have been
    case "begun":
        die_around(submissions, "append", 1, after=True)
    case "sbatch returned":
        die_around(slurm, "_sbatch", 1, after=True)
    case "before the end":
        die_around(slurm.Slurm, "submit", 1, after=True)
    case "after the end":
        die_around(submissions, "append", 2, after=True)
    case "second begun":  # of the confirming runs
        die_around(submissions, "append", 3, after=True)
    case "second sbatch returned":
        die_around(slurm, "_sbatch", 2, after=True)
    case "after the second end":
        die_around(submissions, "append", 4, after=True)
print(len(submit(read_grid(grid), runs_folder, "slurm", lambda message: None).submitted))
