"""Runs a module on one run's folder in this terminal, with the code that the run began with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import mtlcluster
from mtlcluster.config.run import SweepRunConfig, read_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch.code.changes import mend
from mtlcluster.processes.environment import headless
from mtlcluster.processes.pythonpath import behind
from mtlcluster.sweep.folder import Run, Sweep

# Ctrl-C while the module is still being imported should not show where.
QUIET = """
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def sweep_of(folder: Path) -> Path | None:
    """The sweep's folder whose code `run_module` runs; None of a lone run, whose job is found as `train` finds it."""
    in_sweep = Sweep(folder.parent).grid.exists() or isinstance(read_run_config(Run(folder).config), SweepRunConfig)
    return folder.parent if in_sweep else None


def run_module(module: str, folder: Path, *arguments: str) -> int:
    """`python -m module FOLDER ARGUMENTS` on a run's folder; of a sweep's run with its code/<hash>/. Returns the exit
    status, as a shell's after a signal.
    """
    config = read_run_config(Run(folder).config)
    code, library = None, Path(mtlcluster.__file__).parents[1]
    if isinstance(config, SweepRunConfig):
        code = folder.parent / "code" / config.origin.code
        mend(Sweep(folder.parent), [config.origin.code])
        if not (code / Path(*module.split(".")).with_suffix(".py")).is_file():
            raise UserError(f"{folder} began with a version of mtlcluster that cannot do this yet")
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]  # of this terminal
    environment = headless(PYTHONPATH=behind(code or library), PYTHONIOENCODING=f"{encoding}:replace")
    command = [sys.executable, "-c", QUIET, module, str(folder), *arguments]
    status = subprocess.run(command, cwd=code, env=environment).returncode
    if status < 0 and -status != signal.SIGPIPE:
        print(f"mtlcluster: killed by {signal.Signals(-status).name}; is there too little memory?", file=sys.stderr)
    return status if status >= 0 else 128 - status
