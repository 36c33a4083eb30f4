"""PYTHONPATH of what runs with a code/<hash>/: that code first, and behind it what the user has set.

Imported by the worker: nothing heavy here.
"""

import os
from pathlib import Path


def users() -> list[str]:
    """The folders of this process's PYTHONPATH, as they are seen from everywhere."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys(os.path.abspath(entry) for entry in given if entry))  # noqa: PTH100


def behind(code: Path) -> str:
    return os.pathsep.join(dict.fromkeys([str(code), *users()]))
