"""Copies parts of a sweep's folder to a cluster, into a hidden folder. The agent there moves them into the sweep."""

import hashlib
import socket
from typing import Any

from mtlcluster.config.cluster import REMOTE_ONLY
from mtlcluster.remote.clusters import RemoteCluster
from mtlcluster.sweep.folder import Sweep

NOT_FOR_THERE = {"host", "environment", *REMOTE_ONLY}  # options that only this side needs


def arrival_folder(sweep: Sweep) -> str:
    """The name of the hidden folder. It is always the same for a sweep of this machine, so an upload can be resumed."""
    return f".arriving-{hashlib.sha256(f'{socket.gethostname()} {sweep.folder.absolute()}'.encode()).hexdigest()[:8]}"


def upload(remote: RemoteCluster, sweep: Sweep, names: list[str]) -> str:
    """Copies files and folders to the cluster.

    Args:
        remote: The cluster.
        sweep: The sweep here.
        names: The names of files and folders, relative to the sweep's folder.

    Returns:
        The name of the hidden folder.

    Raises:
        ClusterError: They could not be copied.
    """
    folder = arrival_folder(sweep)
    remote.connection.push(sweep.folder, names, f"{remote.sweep(sweep.name)}/{folder}")
    return folder


def name_and_options(remote: RemoteCluster) -> dict[str, Any]:
    """The part of a request that describes the cluster to its own agent."""
    options = remote.cluster.options.model_dump(exclude=NOT_FOR_THERE, exclude_defaults=True)
    return {"cluster": remote.name, "options": options}
