"""A verb about one run, in this terminal: which run is meant, and a module called on it with the code of its start."""

import os
import subprocess
import sys
from pathlib import Path

import mtlcluster
from mtlcluster.config.run import SweepRunConfig, read_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch.control import listing, select
from mtlcluster.sweep.folder import Run, find_sweep, sweeps


def find_run(runs_folder: Path, text: str) -> Path:
    """The folder of the run that `text` means: a path, SWEEP/RUN, or a part of a name that only one run has.

    Raises UserError that lists what there is to choose from.
    """
    if Run(Path(text)).config.is_file():
        return Path(text).resolve()
    sweep_name, slash, part = text.rpartition("/")
    if slash:
        sweep = find_sweep(runs_folder, sweep_name)
        names = [run.name for run in sweep.runs()]
        return sweep.run(select(sweep.name, names, [part])[0]).folder.resolve()
    runs = [run for sweep in sweeps(runs_folder) for run in sweep.runs()]
    found = [run for run in runs if run.name == text] or [run for run in runs if text in run.name]
    names = [f"{run.folder.parent.name}/{run.name}" for run in found or runs]
    if not found:
        raise UserError(f"no run in {runs_folder} has '{text}' in its name:{listing(names) or ' there are none'}")
    if len(found) > 1:
        raise UserError(f"'{text}' could mean {len(found)} runs:{listing(names)}")
    return found[0].folder.resolve()


def run_module(module: str, folder: Path, *arguments: str) -> int:
    """`python -m module FOLDER ARGUMENTS` on a run's folder; of a sweep's run with its code/<hash>/. Returns the exit
    status, negative for a signal.
    """
    config = read_run_config(Run(folder).config)
    code, library = None, Path(mtlcluster.__file__).parents[1]
    if isinstance(config, SweepRunConfig):
        code = folder.parent / "code" / config.origin.code
        if not (code / Path(*module.split(".")).with_suffix(".py")).is_file():
            raise UserError(f"{folder} began with a version of mtlcluster that cannot do this yet")
    environment = {**os.environ, "PYTHONPATH": str(code or library)}
    return subprocess.run([sys.executable, "-m", module, str(folder), *arguments], cwd=code, env=environment).returncode
