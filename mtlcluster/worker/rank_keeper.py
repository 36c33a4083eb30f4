"""The keeper: a process on each node. It starts ranks of a run, passes on their output, and ends them.

`python -m mtlcluster._entry rank FD` is the keeper on the worker's own node; FD is its end of a connection to the
worker. On the other nodes of a job, slurm.py becomes the keeper. When the connection ends, so do the ranks.

The messages are JSON. To the keeper:

    {"start": {"folder": RUN_FOLDER, "code": …, "environment": {…}, "ranks": [[rank, local rank], …]}}
    {"ask": true}                           which ranks have ended by now?
    {"kill": true}

From the keeper:

    {"rank": 2, "line": "…"}                the rank printed this
    {"rank": 2, "code": exit status}        the rank has ended
    {"answered": true}                      all ends that were asked for have been sent
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
from multiprocessing.connection import Connection
from typing import Any

from mtlcluster.processes.exit_status import FAILED
from mtlcluster.worker.rank_process import GRACE, command, ignore_signals, kill_group, without_ranks

POLL = 0.5  # seconds until the end of a rank is noticed whose pipe another process still holds
LONGEST_LINE = 2**16  # bytes of output that are kept back until their line is complete
PR_SET_PDEATHSIG = 1


class Keeper:
    """Keeps the ranks that the worker asks for."""

    def __init__(self, connection: Connection) -> None:
        """
        Args:
            connection: To the worker.
        """
        self.connection = connection
        self.ranks: list[_Rank] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(connection, selectors.EVENT_READ)

    def keep(self) -> None:
        """Runs until the connection has ended and no rank is left.

        After the connection has ended, the ranks get GRACE seconds: rank 0 may still be saving, and needs the others
        for that.
        """
        deadline = None
        while self.ranks or deadline is None:
            for key, _ in self.selector.select(POLL):
                if key.fileobj is not self.connection:
                    key.data.read()
                elif not self._listen():
                    self.selector.unregister(self.connection)
                    deadline = time.monotonic() + GRACE
            if deadline is not None and time.monotonic() > deadline:
                self._kill()
            self._report_ends()

    def _listen(self) -> bool:
        """Does what the next message asks. Returns False if the connection has ended."""
        try:
            message = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return False
        if "kill" in message:
            self._kill()
        elif "ask" in message:
            self._report_ends()
            self._send({"answered": True})
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
                    preexec_fn=_prepare_rank,
                )
            except OSError as error:
                self._send({"rank": number, "line": f"could not be started: {error}"})
                self._send({"rank": number, "code": FAILED})
                continue
            rank = _Rank(number, process, self._send)
            self.ranks.append(rank)
            self.selector.register(rank.output, selectors.EVENT_READ, rank)

    def _kill(self) -> None:
        for rank in self.ranks:
            kill_group(rank.process)

    def _report_ends(self) -> None:
        """Tells the worker which ranks have ended, and forgets them."""
        for rank in [rank for rank in self.ranks if rank.process.poll() is not None]:
            kill_group(rank.process)
            self.selector.unregister(rank.output)
            rank.end()
            self.ranks.remove(rank)

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the worker is dead; `_listen` notices it
            self.connection.send_bytes(json.dumps(message).encode())


class _Rank:
    """A rank and its output."""

    def __init__(
        self, number: int, process: "subprocess.Popen[bytes]", send: Callable[[dict[str, Any]], object]
    ) -> None:
        self.number, self.process, self.send = number, process, send
        assert process.stdout is not None
        self.output = process.stdout
        self.unread = b""
        os.set_blocking(self.output.fileno(), False)

    def read(self) -> bool:
        """Passes on the lines that are there. Returns False if there was nothing to read."""
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
            self._send_line(line)
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its output and goes on
                self.process.wait(POLL)
        return bool(data)

    def end(self) -> None:
        """After the process has ended: passes on the rest of its output, and its exit status."""
        while self.read():
            pass
        if self.unread:
            self._send_line(self.unread)
        self.output.close()
        self.send({"rank": self.number, "code": self.process.returncode})

    def _send_line(self, line: bytes) -> None:
        self.send({"rank": self.number, "line": line.decode(errors="replace")})


def _prepare_rank() -> None:
    """In the process of a rank, before it runs Python. The rank is killed when its keeper dies."""
    ignore_signals()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    ignore_signals()
    Keeper(Connection(int(sys.argv[1]))).keep()
