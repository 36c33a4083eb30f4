"""Where cluster files are; apart from what reads them, so that who has none pays nothing for it."""

import os
from pathlib import Path

FILE_NAME = "clusters.yaml"


def cluster_files(grid_folder: Path | None) -> list[Path]:
    """The cluster files there are, the nearest last. Without a grid: those of this folder and of its configs/ count."""
    home = os.environ.get("HOME")       # a container may have none
    folders = [Path(home, ".config", "mtlcluster")] if home else []
    folders += [grid_folder] if grid_folder else [Path("configs"), Path()]
    return [path for folder in folders if _is_file(path := folder / FILE_NAME)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:     # beside a grid of somebody else's
        return False
