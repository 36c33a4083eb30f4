"""The training processes (ranks) of a run, as its worker sees them.

Rank 0 is the worker's own child and reports for the run. The others have a keeper on each node, see rank_keeper.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mtlcluster import _entry
from mtlcluster.processes.environment import HASHES
from mtlcluster.processes.exit_status import FAILED
from mtlcluster.processes.pythonpath import behind
from mtlcluster.sweep.files import unfollowed
from mtlcluster.sweep.folder import Run
from mtlcluster.worker.rank_process import command, ignore_signals, kill_group, without_ranks
from mtlcluster.worker.rendezvous import Nodes
from mtlcluster.worker.slots import Allocation

EXIT_DELAY = 0.2  # seconds from the end of a process's reports to its own end
KEEPER_TIMEOUT = 1.0  # seconds that a keeper may take to answer
POLL = 0.5  # seconds
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class KeptRanks:
    """The ranks of a run that one keeper looks after.

    Attributes:
        connection: To the keeper.
        running: The numbers of the ranks that have not ended.
    """

    def __init__(
        self, connection: Connection, on_line: Callable[[int, str], object], on_end: Callable[[int, int, str], object]
    ) -> None:
        """
        Args:
            connection: To the keeper.
            on_line: Called with a rank and a line that it printed.
            on_end: Called with a rank, its exit status and the last line that it printed.
        """
        self.connection, self.on_line, self.on_end = connection, on_line, on_end
        self.running: set[int] = set()
        self.last_lines: dict[int, str] = {}
        self.answered = False

    def start(self, ranks: list[tuple[int, int]], **details: Any) -> None:
        """Starts ranks, given as (rank, local rank). Raises OSError if the keeper is gone."""
        self._send({"start": {**details, "ranks": ranks}})
        self.running = {rank for rank, _ in ranks}

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._send({"kill": True})

    def catch_up(self) -> None:
        """Asks the keeper which ranks have ended by now, and reads its answer."""
        self.answered, deadline = False, time.monotonic() + KEEPER_TIMEOUT
        with contextlib.suppress(OSError):
            self._send({"ask": True})
            while not self.answered and time.monotonic() < deadline:
                self.connection.poll(POLL)
                if not self.read():
                    return

    def read(self) -> bool:
        """Reads the keeper's messages. Returns False if nothing more will come."""
        try:
            while self.connection.poll():
                self._handle(json.loads(self.connection.recv_bytes()))
        except (EOFError, OSError):
            for rank in sorted(self.running):
                self.on_end(rank, FAILED, "the process that looked after it is gone")
            self.running.clear()
            return False
        return True

    def _handle(self, message: dict[str, Any]) -> None:
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
        self.connection.send_bytes(json.dumps(message).encode())


class Ranks:
    """All ranks of one attempt at a run.

    The processes on this node inherit the run's lock and the slots. So both stay taken until these processes are gone,
    even if the worker dies first.

    Attributes:
        first: The process of rank 0.
        others: The ranks 1 … N-1, by keeper.
        killed: True if they were killed.
    """

    first: "subprocess.Popen[bytes]"
    reports: int  # the open pipe from which the reports of rank 0 are read

    def __init__(
        self, run: Run, code: Path, resources: dict[str, Any], allocation: Allocation, lock: int, nodes: Nodes
    ) -> None:
        """
        Args:
            run: The run.
            code: The code that it is trained with, code/<hash>/.
            resources: The resources that its configuration asks for.
            allocation: The CPUs and GPUs that it got on this node.
            lock: The run's lock, open and held.
            nodes: The other nodes of the job.
        """
        self.run, self.code, self.resources, self.nodes = run, code, resources, nodes
        self.allocation, self.lock = allocation, lock
        self.node_count: int = resources.get("nodes", 1)
        self.per_node: int = max(1, resources["gpus"])
        self.others: list[KeptRanks] = []
        self.keeper: subprocess.Popen[bytes] | None = None  # the one on this node
        self.killed = False
        self._unread = b""  # the beginning of a report

    @property
    def count(self) -> int:
        return self.node_count * self.per_node

    @property
    def are_over(self) -> bool:
        return self.first.poll() is not None and not any(kept.running for kept in self.others)

    def start_first(self) -> None:
        """Starts rank 0. Raises OSError if that fails."""
        self._shared = self._shared_environment()
        self.reports, report_end = os.pipe()
        os.set_blocking(self.reports, False)
        try:
            self.first = self._start_here(
                command(str(self.run.folder), report_end, self.lock, *self.allocation.files),
                subprocess.PIPE,
                report_end,
            )
        except OSError:
            os.close(self.reports)
            raise
        finally:
            os.close(report_end)

    def start_others(self, on_line: Callable[[int, str], object], on_end: Callable[[int, int, str], object]) -> None:
        """Starts the ranks other than rank 0. Those of a node have consecutive numbers. Raises OSError.

        Args:
            on_line: See KeptRanks.
            on_end: See KeptRanks.
        """
        connections = self.nodes.connections[: self.node_count - 1]
        if self.per_node > 1:
            connections = [self._start_keeper(), *connections]
        places = [divmod(rank, self.per_node) for rank in range(1, self.count)]
        for connection, node in zip(connections, sorted({node for node, _ in places}), strict=True):
            ranks = [(node * self.per_node + local, local) for n, local in places if n == node]
            kept = KeptRanks(connection, on_line, on_end)
            self.others.append(kept)
            kept.start(ranks, folder=str(self.run.folder), code=str(self.code), environment=self._shared)

    def _start_keeper(self) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            words = [sys.executable, *_entry.python_arguments("rank"), str(theirs.fileno())]
            self.keeper = self._start_here(words, subprocess.DEVNULL, theirs.fileno())
        return ours

    def _start_here(self, words: list[str], stdin: int, pipe: int) -> "subprocess.Popen[bytes]":
        """Starts a process on this node. It prints into the run's log, and inherits the pipe, lock and slots."""
        with open(self.run.log, "ab", opener=unfollowed) as log:
            return subprocess.Popen(
                words,
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.code,
                env=self._environment(),
                pass_fds=(pipe, self.lock, *self.allocation.files),
                start_new_session=True,
                preexec_fn=ignore_signals,
            )

    def _shared_environment(self) -> dict[str, str]:
        """The variables that all ranks have."""
        environment = {"PYTHONPATH": behind(self.code), "PYTHONUNBUFFERED": "1", **HASHES}
        environment |= dict.fromkeys(THREADS, str(max(1, self.resources["cpus"] // self.per_node)))
        if self.count > 1:
            environment |= {"WORLD_SIZE": str(self.count), "LOCAL_WORLD_SIZE": str(self.per_node)}
            environment |= {"MASTER_ADDR": self.nodes.address, "MASTER_PORT": str(self.nodes.free_port())}
        return environment

    def _environment(self) -> dict[str, str]:
        """The environment of rank 0, and of the keeper on this node."""
        environment = without_ranks() | self._shared
        if self.count > 1:
            environment |= {"RANK": "0", "LOCAL_RANK": "0"}
        if self.allocation.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.allocation.gpus)
        return environment

    def read_reports(self) -> tuple[list[dict[str, Any]], bool]:
        """Reads what rank 0 has reported, without waiting.

        Returns:
            The reports, and whether more may come.
        """
        try:
            data = os.read(self.reports, 2**20)
        except BlockingIOError:
            return [], True
        *lines, self._unread = (self._unread + data).split(b"\n")
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):  # to see its end before the others miss it
                self.first.wait(EXIT_DELAY)
        return [json.loads(line) for line in lines], bool(data)

    def ask_to_stop(self) -> None:
        """Asks rank 0 for a checkpoint and an end. The others stop with it."""
        assert self.first.stdin is not None
        with contextlib.suppress(OSError):
            self.first.stdin.write(b"stop\n")
            self.first.stdin.flush()

    def catch_up(self) -> None:
        """Finds which of the ranks other than rank 0 have ended."""
        for kept in self.others:
            kept.catch_up()

    def kill(self) -> None:
        self.killed = True
        kill_group(self.first)
        for kept in self.others:
            kept.kill()

    def close(self) -> None:
        """After all have ended: closes what connects them with the worker."""
        assert self.first.stdin is not None
        with contextlib.suppress(OSError):
            self.first.stdin.close()
        os.close(self.reports)
        if self.keeper is not None:
            self.others[0].connection.close()  # then the keeper ends
            self.keeper.wait()
