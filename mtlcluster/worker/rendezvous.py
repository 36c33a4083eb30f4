"""The other nodes of a job: on each a keeper (see `ranks`), all in touch with the worker on the first node.

Slurm starts one task a node. The first is the worker; it leaves a note in the submission's folder of where it can be
reached and of a secret, without which nobody else on the cluster's network can speak for it. The others look for that
note, call, and keep ranks until the worker hangs up. Nothing is started by a second srun: that would take a TERM, which
to the worker only means to save, for an order to kill.
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

TURN = 0.5  # seconds
PATIENCE = 180.0  # seconds until every node should have called; some start later than others
ANSWER = 10  # seconds for one answer; who has called may be nobody of ours


@dataclass
class Nodes:
    """The other nodes in their order, and the first one's address as they reach it."""

    address: str = "127.0.0.1"
    voices: list[Connection] = field(default_factory=list)

    def free_port(self) -> int:
        """One that nobody uses on this node now."""
        with socket.create_server((self.address, 0)) as server:
            port: int = server.getsockname()[1]
            return port


def note_of(folder: Path) -> Path:
    """Where this job, this time, says how its worker can be reached."""
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    return folder / f"{os.environ['SLURM_JOB_ID']}-{restart}.nodes"


def gather(folder: Path, count: int, told_to_stop: Callable[[], object]) -> Nodes:
    """Waits until `count` nodes have called. Fewer are returned after PATIENCE, or when there is something to stop."""
    nodes, note, key = Nodes(), note_of(folder), secrets.token_bytes(32)
    if not count:
        return nodes
    callers: dict[int, Connection] = {}
    with socket.create_server(("", 0), backlog=count) as server:
        names = [os.environ["SLURM_LAUNCH_NODE_IPADDR"], os.environ["SLURMD_NODENAME"], os.uname().nodename]
        _write_secret(note, json.dumps({"names": names, "port": server.getsockname()[1], "key": key.hex()}))
        server.settimeout(TURN)
        deadline = time.monotonic() + PATIENCE
        while len(callers) < count and not told_to_stop() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, EOFError, AuthenticationError):
                caller, _ = server.accept()
                with caller:
                    voice = _introduced(caller, key, calling=False)
                    callers[int(voice.recv_bytes())] = voice
                    nodes.address = caller.getsockname()[0]
                    _wait_at_most(caller, 0)
    note.unlink(missing_ok=True)
    nodes.voices = [callers[number] for number in sorted(callers)]
    return nodes


def keep_ranks(folder: Path) -> None:
    """What a node beside the first does, until the worker hangs up."""
    deadline = time.monotonic() + PATIENCE
    while (voice := _call(note_of(folder))) is None:
        if time.monotonic() > deadline:
            sys.exit("the worker on the first node can't be reached")
        time.sleep(TURN)
    Keeper(voice).keep()


def _call(note: Path) -> Connection | None:
    """The connection to the worker; None while there is no way to it."""
    if note not in note.parent.iterdir():  # a network file system looks beyond its cache then
        return None
    try:
        said = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    for name in said["names"]:
        with (
            contextlib.suppress(OSError, EOFError, AuthenticationError),
            socket.create_connection((name, said["port"]), timeout=ANSWER) as caller,
        ):
            caller.settimeout(None)
            voice = _introduced(caller, bytes.fromhex(said["key"]), calling=True)
            voice.send_bytes(os.environ["SLURM_NODEID"].encode())
            _wait_at_most(caller, 0)
            return voice
    return None


def _introduced(caller: socket.socket, key: bytes, calling: bool) -> Connection:
    """A connection whose two ends have shown each other that they know the key. Each answer may take ANSWER seconds.

    Raises AuthenticationError, EOFError or OSError.
    """
    _wait_at_most(caller, ANSWER)
    voice = Connection(os.dup(caller.fileno()))
    for step in (answer_challenge, deliver_challenge) if calling else (deliver_challenge, answer_challenge):
        step(voice, key)
    return voice


def _wait_at_most(caller: socket.socket, seconds: int) -> None:
    """For whatever is read from it; 0: for ever."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


def _write_secret(path: Path, text: str) -> None:
    """Whole or absent, and for this user's eyes alone."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # never what others made
        file.write(text)
    beside.rename(path)
