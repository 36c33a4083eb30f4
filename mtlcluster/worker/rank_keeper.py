"""The ranks of a run beside the first: on each node one keeper, a process that starts them, passes on what they print
and ends them. It hears from the worker over a connection; when that ends, so do the ranks.

To the keeper, as JSON:

    {"start": {"folder": RUN_FOLDER, "code": …, "environment": {…}, "ranks": [[rank, local rank], …]}}
    {"ask": true}           who has ended by now?
    {"kill": true}

and from it, of each rank: {"rank": 2, "line": "…"} and at its end {"rank": 2, "code": exit status}; and when it has
answered what it was asked so: {"answered": true}.

`python -m mtlcluster.worker.rank_keeper FD` is the keeper on the worker's own node, FD its end of the connection.
Imported by the worker: nothing heavy here.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from mtlcluster import _entry

TURN = 0.5  # seconds: how soon an end is seen whose pipe some helper process still holds
GRACE = 10.0  # seconds until the ranks that are left over are killed
LONGEST_LINE = 2**16  # bytes of output that are kept back until their line is complete
ANSWER = 1.0  # seconds that a keeper may take to answer
PR_SET_PDEATHSIG = 1

# What torch.distributed goes by; and what torchrun, if `submit` ran under it, has said about another store.
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Where threads of OpenMP sit: a module's word is for a program that has the node for itself. All runs of a node, and
# their data loaders, would sit on its first core.
BINDING = {
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"),
    *("KMP_AFFINITY", "KMP_HW_SUBSET", "KMP_PLACE_THREADS", "KMP_TOPOLOGY_METHOD", "KMP_HIDDEN_HELPER_AFFINITY"),
}
FOREIGN = {*VARIABLES, "TORCHELASTIC_USE_AGENT_STORE", *BINDING}


def command(folder: str, report_fd: int, *held: int) -> list[str]:
    """What starts a rank; see training/child.py."""
    return [sys.executable, *_entry.python_arguments("child"), folder, *map(str, (report_fd, *held))]


def without_ranks() -> dict[str, str]:
    """This process's environment without what it says about ranks, and about cores for them."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def ignore_signals() -> None:
    """In a rank, before it executes Python: stops come from the worker alone."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Ends a rank and its helpers, such as data loaders."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Crew:
    """The worker's side: the ranks of one run that one keeper looks after."""

    voice: Connection
    on_line: Callable[[int, str], object]  # rank, what it printed
    on_end: Callable[[int, int, str], object]  # rank, exit status, its last words
    running: set[int] = field(default_factory=set)
    last_lines: dict[int, str] = field(default_factory=dict)
    answered: bool = False

    def start(self, ranks: list[tuple[int, int]], **details: Any) -> None:
        """Raises OSError if the keeper is gone."""
        self._send({"start": {**details, "ranks": ranks}})
        self.running = {rank for rank, _ in ranks}

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._send({"kill": True})

    def catch_up(self) -> None:
        """Hears of every rank that has ended by now."""
        self.answered, deadline = False, time.monotonic() + ANSWER
        with contextlib.suppress(OSError):
            self._send({"ask": True})
            while not self.answered and time.monotonic() < deadline:
                self.voice.poll(TURN)
                if not self.read():
                    return

    def read(self) -> bool:
        """Takes in what there is to hear. Returns False once there will be no more."""
        try:
            while self.voice.poll():
                self._take_in(json.loads(self.voice.recv_bytes()))
        except (EOFError, OSError):
            for rank in sorted(self.running):
                self.on_end(rank, 1, "the process that looked after it is gone")
            self.running.clear()
            return False
        return True

    def _take_in(self, message: dict[str, Any]) -> None:
        if "answered" in message:
            self.answered = True
            return
        rank = message["rank"]
        if "line" in message:
            self.on_line(rank, message["line"])
            self.last_lines[rank] = message["line"].strip() or self.last_lines.get(rank, "")
        else:
            self.running.discard(rank)
            self.on_end(rank, message["code"], self.last_lines.get(rank, ""))

    def _send(self, message: dict[str, Any]) -> None:
        self.voice.send_bytes(json.dumps(message).encode())


class Keeper:
    """The other side."""

    def __init__(self, voice: Connection) -> None:
        self.voice = voice
        self.ranks: list[_Rank] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(voice, selectors.EVENT_READ)

    def keep(self) -> None:
        """Until the worker has hung up and no rank is left. Dead or not, the worker has no more to say then: rank 0 may
        be saving still, for which it needs the others, but not for ever.
        """
        deadline = None
        while self.ranks or deadline is None:
            for key, _ in self.selector.select(TURN):
                if key.fileobj is not self.voice:
                    key.data.read()
                elif not self._listen():
                    self.selector.unregister(self.voice)
                    deadline = time.monotonic() + GRACE
            if deadline is not None and time.monotonic() > deadline:
                self._kill()
            self._look()

    def _listen(self) -> bool:
        try:
            message = json.loads(self.voice.recv_bytes())
        except (EOFError, OSError):
            return False
        if "kill" in message:
            self._kill()
        elif "ask" in message:
            self._look()
            self._say({"answered": True})
        else:
            self._start(**message["start"])
        return True

    def _start(self, folder: str, code: str, environment: dict[str, str], ranks: list[tuple[int, int]]) -> None:
        for number, local in ranks:
            own = {"RANK": str(number), "LOCAL_RANK": str(local)}
            try:
                process = subprocess.Popen(
                    command(folder, -1),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd=code,
                    env={**without_ranks(), **environment, **own},
                    start_new_session=True,
                    preexec_fn=_as_rank,
                )
            except OSError as error:
                self._say({"rank": number, "line": f"could not be started: {error}"})
                self._say({"rank": number, "code": 1})
                continue
            rank = _Rank(number, process, self._say)
            self.ranks.append(rank)
            self.selector.register(rank.output, selectors.EVENT_READ, rank)

    def _kill(self) -> None:
        for rank in self.ranks:
            kill_group(rank.process)

    def _look(self) -> None:
        """Who has ended."""
        for rank in [rank for rank in self.ranks if rank.process.poll() is not None]:
            kill_group(rank.process)
            self.selector.unregister(rank.output)
            rank.end()
            self.ranks.remove(rank)

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the worker is dead; that is seen by its silence
            self.voice.send_bytes(json.dumps(message).encode())


class _Rank:
    """A rank and what it prints."""

    def __init__(
        self, number: int, process: "subprocess.Popen[bytes]", say: Callable[[dict[str, Any]], object]
    ) -> None:
        self.number, self.process, self.say = number, process, say
        assert process.stdout is not None
        self.output = process.stdout
        self.unread = b""
        os.set_blocking(self.output.fileno(), False)

    def read(self) -> bool:
        """Passes on the lines that are there. Returns False where there was nothing to read."""
        if self.output.closed:
            return False
        try:
            data = os.read(self.output.fileno(), 2**20)
        except BlockingIOError:
            return False
        *lines, self.unread = (self.unread + data).split(b"\n")
        if len(self.unread) > LONGEST_LINE:
            lines, self.unread = [*lines, self.unread], b""
        for line in lines:
            self.say({"rank": self.number, "line": line.decode(errors="replace")})
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):  # else it closed its output and goes on
                self.process.wait(TURN)
        return bool(data)

    def end(self) -> None:
        """After the process has ended."""
        while self.read():
            pass
        if self.unread:
            self.say({"rank": self.number, "line": self.unread.decode(errors="replace")})
        self.output.close()
        self.say({"rank": self.number, "code": self.process.returncode})


def _as_rank() -> None:
    ignore_signals()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed keeper leaves nobody behind


if __name__ == "__main__":
    ignore_signals()
    Keeper(Connection(int(sys.argv[1]))).keep()
