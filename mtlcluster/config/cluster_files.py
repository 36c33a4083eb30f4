"""Where cluster files are; apart from what reads them, so that who has none pays nothing for it.

A cluster file says which hosts are called, and has lines of shell. So it counts where the user keeps it, beside a grid
that the user names, and beside one that the user has submitted from here; never because it lies in a folder that
somebody sent, or because a sweep's files say so.
"""

import os
from pathlib import Path

from mtlcluster.config import submitted_here

FILE_NAME = "clusters.yaml"
# The clusters that need no file.
LOCAL = "local"  # this machine
SLURM = "slurm"  # the Slurm whose commands are found here


def cluster_files(grid_folder: Path | None) -> list[Path]:
    """The cluster files that count, the nearest last. grid_folder: of a grid that the user names. Without one: this
    folder and its configs/, if the user has submitted a grid there.
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
    """Which cluster files near by don't count, and when they would; empty where there are none."""
    others = [str(path) for path in files_here() if not submitted_here.has_grids(path.parent)]
    if not others:
        return ""
    return f"{' and '.join(others)} will count once a grid beside it was submitted, or a cluster of it set up"


def files_here() -> list[Path]:
    """Those of this folder and of its configs/, whoever has written them."""
    return [path for folder in (Path("configs"), Path()) if _is_file(path := folder / FILE_NAME)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # beside a grid of somebody else's
        return False
