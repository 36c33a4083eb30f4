"""Parts of a sweep's folder on their way to a cluster: copied into a hidden folder, from which they arrive whole."""

import hashlib
import socket
from typing import Any

from mtlcluster.config.cluster import REMOTE_ONLY
from mtlcluster.remote.clusters import Remote
from mtlcluster.sweep.folder import Sweep

NOT_FOR_THERE = {"host", "environment", *REMOTE_ONLY}  # what only this side needs to know


def arriving(sweep: Sweep) -> str:
    """The hidden folder: always the same for this machine's sweep, so that a second attempt goes on with it."""
    return f".arriving-{hashlib.sha256(f'{socket.gethostname()} {sweep.folder.absolute()}'.encode()).hexdigest()[:8]}"


def ship(remote: Remote, sweep: Sweep, names: list[str]) -> str:
    """Copies files and folders, named from the sweep's folder; returns the hidden folder. Raises ClusterError."""
    folder = arriving(sweep)
    remote.connection.push(sweep.folder, names, f"{remote.sweep(sweep.name)}/{folder}")
    return folder


def wanted_of(remote: Remote) -> dict[str, Any]:
    """A cluster's name and options, as the other side needs them."""
    options = remote.cluster.options.model_dump(exclude=NOT_FOR_THERE, exclude_defaults=True)
    return {"cluster": remote.name, "options": options}
