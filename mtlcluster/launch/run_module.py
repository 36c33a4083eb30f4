"""Runs `evaluate` or `replay` on a run's folder in this terminal, with the code that the run began with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import mtlcluster
from mtlcluster import _entry
from mtlcluster.config.run import SweepRunConfig, read_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch.code.changes import mend
from mtlcluster.processes.environment import headless
from mtlcluster.processes.pythonpath import behind
from mtlcluster.sweep.folder import Run, Sweep

# Ctrl-C shows no traceback, not even while the module is being imported.
QUIET = """
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def sweep_of(folder: Path) -> Path | None:
    """The folder of the run's sweep, which has the code to run. None for a run made by `train`: it has no sweep."""
    in_sweep = Sweep(folder.parent).grid.exists() or isinstance(read_run_config(Run(folder).config), SweepRunConfig)
    return folder.parent if in_sweep else None


def run_module(name: str, folder: Path, *arguments: str) -> int:
    """Runs `evaluate` or `replay` on a run's folder, and waits for its end. A sweep's run has its code in code/<hash>/.

    Args:
        name: A name in _entry.MODULES.
        folder: The run's.
        arguments: More of them, behind the folder.

    Returns:
        The exit status; after a signal that of a shell, 128 + its number.

    Raises:
        UserError: The code is too old to have this, or is damaged.
    """
    config = read_run_config(Run(folder).config)
    code, library = None, Path(mtlcluster.__file__).parents[1]
    if isinstance(config, SweepRunConfig):
        code = folder.parent / "code" / config.origin.code
        mend(Sweep(folder.parent), [config.origin.code])
    _, module, *more = _entry.python_arguments(name, code)
    if code is not None and not (code / Path(*module.split(".")).with_suffix(".py")).is_file():
        raise UserError(f"{folder} began with a version of mtlcluster that cannot do this yet")
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]  # of this terminal
    environment = headless(PYTHONPATH=behind(code or library), PYTHONIOENCODING=f"{encoding}:replace")
    command = [sys.executable, "-c", QUIET, module, *more, str(folder), *arguments]
    status = subprocess.run(command, cwd=code, env=environment).returncode
    if status < 0 and -status != signal.SIGPIPE:
        print(f"mtlcluster: killed by {signal.Signals(-status).name}; is there too little memory?", file=sys.stderr)
    return status if status >= 0 else 128 - status
