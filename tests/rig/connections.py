"""Connections to a login node, refused or open, and a new environment over there."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from mtlcluster.errors import ClusterError
from mtlcluster.remote.ssh import Connection

PACKAGES = Path(find_spec("torch").origin).parents[1]
INSTALL = f'cd "$VIRTUAL_ENV"/lib/python3*/site-packages && rm -rf setuptools*; echo {PACKAGES} > seen.pth  # no torch'
NEW = {"environment": None, "root": "~/of mine", "install": [INSTALL]}
READY = "plain is ready; next: mtlcluster submit GRID --cluster plain"


def opened(host: str = "plain") -> "closing[Connection]":
    return closing(Connection(host))


@contextmanager
def refused(words: str, host: str = "plain") -> Iterator[None]:
    """What a user reads, at once."""
    began = time.monotonic()
    with pytest.raises(ClusterError, match=re.escape(words)), opened(host) as there:
        there.run("true")
    yield
    assert time.monotonic() - began < 5


def configure(client, name: str, *lines: str) -> None:
    with open(client.hosts / name, "a") as entry:
        entry.writelines(f"    {line}\n" for line in lines)


def ssh(command: str) -> str:
    return subprocess.run(["ssh", "plain", command], capture_output=True, text=True, check=True).stdout
