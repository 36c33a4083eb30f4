"""PYTHONPATH of what runs with a code/<hash>/: that code first, and behind it what the user has set.

Imported by the worker: nothing heavy here.
"""

import os
from pathlib import Path


def users() -> list[str]:
    """The folders of this process's PYTHONPATH, as they are seen from everywhere."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys(os.path.abspath(entry) for entry in given if entry))      # noqa: PTH100


def behind(code: Path, but_below: Path | None = None) -> str:
    """but_below: a folder whose own folders are left out."""
    more = [entry for entry in users() if but_below is None or not Path(entry).is_relative_to(but_below)]
    return os.pathsep.join(dict.fromkeys([str(code), *more]))
