"""Connects the nodes of a job: the worker on the first node, and a keeper on each other node (see rank_keeper).

Slurm starts one task per node. The first is the worker. It writes a note into the submission's folder: its address, and
a secret, without which nobody else on the cluster's network can speak for it. The others read the note, call the
worker, and keep ranks until the connection ends.

A second srun would be simpler, but it takes a TERM as an order to kill, and for the worker a TERM only means to save.
"""

import contextlib
import json
import os
import secrets
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path

from mtlcluster.worker.rank_keeper import Keeper

POLL = 0.5  # seconds
GATHERING_TIMEOUT = 180.0  # seconds until every node should have called; some start later than others
ANSWER_TIMEOUT = 10  # seconds for one answer; the caller may be a stranger


@dataclass
class Nodes:
    """The other nodes of a job.

    Attributes:
        address: The first node's, as the others reach it.
        connections: To the keepers on the other nodes, in the order of the nodes.
    """

    address: str = "127.0.0.1"
    connections: list[Connection] = field(default_factory=list)

    def free_port(self) -> int:
        """A port of this node that nobody uses now."""
        with socket.create_server((self.address, 0)) as server:
            port: int = server.getsockname()[1]
            return port


def note_of(folder: Path) -> Path:
    """The file in the submission's folder that says how to reach this job's worker, since its last requeue."""
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    return folder / f"{os.environ['SLURM_JOB_ID']}-{restart}.nodes"


def gather(folder: Path, count: int, told_to_stop: Callable[[], object]) -> Nodes:
    """Waits until the other nodes have called.

    Args:
        folder: The submission's folder.
        count: The number of the other nodes.
        told_to_stop: Returns whether the job was told to stop.

    Returns:
        The nodes that have called; fewer than `count` after GATHERING_TIMEOUT, or when the job was told to stop.
    """
    nodes, note, key = Nodes(), note_of(folder), secrets.token_bytes(32)
    if not count:
        return nodes
    callers: dict[int, Connection] = {}
    with socket.create_server(("", 0), backlog=count) as server:
        names = [os.environ["SLURM_LAUNCH_NODE_IPADDR"], os.environ["SLURMD_NODENAME"], os.uname().nodename]
        _write_secret(note, json.dumps({"names": names, "port": server.getsockname()[1], "key": key.hex()}))
        server.settimeout(POLL)
        deadline = time.monotonic() + GATHERING_TIMEOUT
        while len(callers) < count and not told_to_stop() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, EOFError, AuthenticationError):
                caller, _ = server.accept()
                with caller:
                    connection = _authenticated(caller, key, calling=False)
                    callers[int(connection.recv_bytes())] = connection
                    nodes.address = caller.getsockname()[0]
                    _limit_waiting(caller, 0)
    note.unlink(missing_ok=True)
    nodes.connections = [callers[number] for number in sorted(callers)]
    return nodes


def keep_ranks(folder: Path) -> None:
    """Calls the worker, and keeps ranks until the connection ends. Every node but the first runs this."""
    deadline = time.monotonic() + GATHERING_TIMEOUT
    while (connection := _call(note_of(folder))) is None:
        if time.monotonic() > deadline:
            sys.exit("the worker on the first node can't be reached")
        time.sleep(POLL)
    Keeper(connection).keep()


def _call(note: Path) -> Connection | None:
    """The connection to the worker. None if it can't be reached yet."""
    if note not in note.parent.iterdir():  # listing the folder makes a network file system look beyond its cache
        return None
    try:
        said = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    for name in said["names"]:
        with (
            contextlib.suppress(OSError, EOFError, AuthenticationError),
            socket.create_connection((name, said["port"]), timeout=ANSWER_TIMEOUT) as caller,
        ):
            caller.settimeout(None)
            connection = _authenticated(caller, bytes.fromhex(said["key"]), calling=True)
            connection.send_bytes(os.environ["SLURM_NODEID"].encode())
            _limit_waiting(caller, 0)
            return connection
    return None


def _authenticated(caller: socket.socket, key: bytes, calling: bool) -> Connection:
    """A connection over the socket, after both ends have shown that they know the key.

    Each answer may take ANSWER_TIMEOUT seconds. Raises AuthenticationError, EOFError or OSError.
    """
    _limit_waiting(caller, ANSWER_TIMEOUT)
    connection = Connection(os.dup(caller.fileno()))
    for step in (answer_challenge, deliver_challenge) if calling else (deliver_challenge, answer_challenge):
        step(connection, key)
    return connection


def _limit_waiting(caller: socket.socket, seconds: int) -> None:
    """Limits how long a read from the socket waits. 0 means without a limit."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


def _write_secret(path: Path, text: str) -> None:
    """Writes a file that only this user may read. It appears whole."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # never what others made
        file.write(text)
    beside.rename(path)
