"""This version of mtlcluster: its hash, what pip knows of it, and the oldest Python that it runs with."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from mtlcluster.errors import ClusterError
from mtlcluster.launch.code.snapshot import library_hash

PRINT_VERSION = "from mtlcluster.launch.code.snapshot import library_hash; print(library_hash())"  # for python -c


def is_this_version(version: str) -> bool:
    """True if `version`, the hash of an installation elsewhere, is the same as that of this one."""
    return version == library_hash()


def installed() -> Distribution:
    """The installation that runs here.

    Raises:
        ClusterError: Mtlcluster is not installed here. Then nobody knows what it depends on.
    """
    try:
        return distribution("mtlcluster")
    except PackageNotFoundError:
        raise ClusterError("mtlcluster runs here without having been installed (pip install -e .)") from None


def oldest_python() -> tuple[int, int]:
    """The oldest Python that mtlcluster supports, as `python_requires` in setup.cfg says."""
    found = re.search(r">=\s*(\d+)\.(\d+)", installed().metadata["Requires-Python"])
    assert found is not None
    return int(found[1]), int(found[2])


def dotted(version: tuple[int, int]) -> str:
    """(3, 11) as 3.11."""
    return ".".join(map(str, version))
