"""A verb about one run, in this terminal: which run is meant, and a module called on it with the code of its start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import mtlcluster
from mtlcluster.config.run import SweepRunConfig, read_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch.control import listing, select
from mtlcluster.launch.environment import headless
from mtlcluster.launch.present import mend
from mtlcluster.launch.pythonpath import behind
from mtlcluster.sweep.folder import Run, Sweep, find_sweep, meant_by, sweeps

# Ctrl-C while the module is still being imported should not show where.
QUIET = """
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def find_run(runs_folder: Path, text: str) -> Path:
    """The folder of the run that `text` means: a path, SWEEP/RUN, or a name, with its hash or without, or a part of one
    that only one run has.

    Raises UserError that lists what there is to choose from.
    """
    if not text:
        raise UserError("expected the name of a run, found nothing")
    if Run(Path(text)).config.is_file():
        return Path(text).resolve()
    sweep_name, slash, part = text.rstrip("/").rpartition("/")
    if slash and Path(text).is_dir() and sweep_name not in {sweep.name for sweep in sweeps(runs_folder)}:
        raise UserError(f"{text} is no run's folder: it has no config.yaml; name a run, or SWEEP/RUN")
    if slash:
        sweep = find_sweep(runs_folder, sweep_name)
        names = [run.name for run in sweep.runs()]
        return sweep.run(select(sweep.name, names, [part])[0]).folder.resolve()
    runs = [run for sweep in sweeps(runs_folder) for run in sweep.runs()]
    meant = meant_by(text, {run.name for run in runs})
    found = [run for run in runs if run.name in meant]
    names = [f"{run.folder.parent.name}/{run.name}" for run in found or runs]
    if not found:
        raise UserError(f"no run in {runs_folder} has '{text}' in its name:{listing(names) or ' there are none'}")
    if len(found) > 1:
        raise UserError(f"'{text}' could mean {len(found)} runs:{listing(names)}")
    return found[0].folder.resolve()


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
