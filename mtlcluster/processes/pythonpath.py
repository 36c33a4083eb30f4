"""PYTHONPATH of a process that runs with a code/<hash>/: first that code, then the user's own PYTHONPATH.

Imported by the worker: nothing heavy here.
"""

import os
from pathlib import Path


def users() -> list[str]:
    """The folders of this process's PYTHONPATH, as absolute paths."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys(os.path.abspath(entry) for entry in given if entry))  # noqa: PTH100


def behind(code: Path) -> str:
    """The value of PYTHONPATH: `code`, and behind it the user's folders."""
    return os.pathsep.join(dict.fromkeys([str(code), *users()]))
