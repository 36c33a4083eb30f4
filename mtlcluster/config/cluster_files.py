"""Finds the cluster files that count. Reading them is in cluster.py, which is slow to import.

A cluster file names hosts and holds shell commands. So it counts only in the user's own ~/.config, beside a grid that
the user names, and beside a grid that the user has submitted from this machine. A folder that somebody sent is no
reason to read one.
"""

import os
from pathlib import Path

from mtlcluster.config import submitted_here

FILE_NAME = "clusters.yaml"
# The clusters that need no file.
LOCAL = "local"  # this machine
SLURM = "slurm"  # the Slurm whose commands are found here


def cluster_files(grid_folder: Path | None) -> list[Path]:
    """The cluster files that count, the nearest last.

    Args:
        grid_folder: The folder of a grid that the user names. None: the current folder and its configs/ count, if the
            user has submitted a grid from there.
    """
    home = os.environ.get("HOME")  # a container may have none
    folders = [Path(home, ".config", "mtlcluster")] if home else []
    near = (
        [grid_folder]
        if grid_folder
        else [path.parent for path in files_here() if submitted_here.has_grids(path.parent)]
    )
    return [path for folder in [*folders, *near] if _is_file(path := folder / FILE_NAME)]


def passed_over() -> str:
    """A sentence on cluster files near by that don't count, and when they would. "" if there are none."""
    others = [str(path) for path in files_here() if not submitted_here.has_grids(path.parent)]
    if not others:
        return ""
    return f"{' and '.join(others)} will count once a grid beside it is submitted, or a cluster in it set up"


def files_here() -> list[Path]:
    """The cluster files of the current folder and its configs/, whoever wrote them."""
    return [path for folder in (Path("configs"), Path()) if _is_file(path := folder / FILE_NAME)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # in a folder of somebody else
        return False
