"""The one entry of all processes that mtlcluster starts: `python -m mtlcluster._entry NAME ARGUMENT …`.

A sweep keeps the code of its submission, and later versions of mtlcluster start processes with that code. So this file,
_entry.sh and the names in MODULES are never renamed, and a name keeps its arguments. All other modules can be renamed
freely. OLD is for code that is older than this file.
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

ENTRY = "mtlcluster._entry"

# What each name runs. Its arguments are described in the module.
MODULES = {
    "worker": "mtlcluster.worker.local",
    "slurm-worker": "mtlcluster.worker.slurm",
    "rank": "mtlcluster.worker.rank_keeper",
    "child": "mtlcluster.training.commands.child",
    "evaluate": "mtlcluster.training.commands.evaluate",
    "replay": "mtlcluster.training.commands.replay",
    "preflight": "mtlcluster.training.commands.preflight",
    "agent": "mtlcluster.remote.agent",
    "choose": "mtlcluster.launch.choose",
}
START_SCRIPT = "mtlcluster/_entry.sh"

# The same for code of version 0.1.0 before this file was there (November 2026): what Python is given in place of
# `-m mtlcluster._entry NAME`. Only the names that a user's command starts with the code of an old sweep.
OLD = {
    "worker": ["-m", "mtlcluster.launch.local"],
    "slurm-worker": [
        "-c",
        "import os, sys; from mtlcluster.launch.worker import work_in_slurm; "
        'work_in_slurm(sys.argv[1], sys.argv[2], int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)), int(sys.argv[3]))',
    ],
    "evaluate": ["-m", "mtlcluster.training.predict"],
    "replay": ["-m", "mtlcluster.training.replay"],
}
OLD_START_SCRIPT = "mtlcluster/launch/start.sh"
OLD_WORKER = "mtlcluster/launch/worker.py"


def python_arguments(name: str, code: Path | None = None) -> list[str]:
    """Python's arguments that start `name`; the arguments of `name` itself follow them.

    Args:
        code: The folder of the code that will run, such as a sweep's code/<hash>/. None for code of this version.
    """
    return list(OLD[name]) if code is not None and _is_old(code) else ["-m", ENTRY, name]


def own_arguments(name: str, command: Sequence[str]) -> list[str]:
    """Finds the arguments of `name` itself in the command line of its process. Empty for any other process."""
    for first in (python_arguments(name), OLD.get(name, [])):
        for place in range(1, len(command)):
            if first and list(command[place : place + len(first)]) == first:
                return list(command[place + len(first) :])
    return []


def start_script(code: Path) -> Path:
    """The shell script that starts the worker of a Slurm job with the code in this folder."""
    return code / (OLD_START_SCRIPT if _is_old(code) else START_SCRIPT)


def essential_files(code: Path) -> list[str]:
    """The files that every code folder of this kind has and needs to start, relative to the folder."""
    if _is_old(code):
        return [OLD_START_SCRIPT, OLD_WORKER, "mtlcluster/training/child.py"]
    return [START_SCRIPT, _file(ENTRY)]


def _is_old(code: Path) -> bool:
    """A folder that is not there yet will hold the code of this version."""
    return (code / OLD_WORKER).is_file() and not (code / _file(ENTRY)).is_file()


def _file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def main() -> None:
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in MODULES:
        print(f"mtlcluster: the code of this run is too old for '{name}'", file=sys.stderr)
        sys.exit(2)
    runpy.run_module(MODULES[name], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
