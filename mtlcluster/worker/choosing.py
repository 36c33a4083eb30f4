"""Confirming runs of a job whose setting is not chosen yet: the worker has it chosen once their trials have ended."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from typing import Any

from mtlcluster import _entry
from mtlcluster.sweep.choices import parse_placeholder
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.trials import read_search
from mtlcluster.worker.status_file import say

PAUSE = 10.0  # seconds until a choice is tried again, on this machine
MOST_CRASHES = 3


class Choosing:
    """The choice of one method's setting, which runs of this job wait for.

    `choose` (launch/choose.py) makes it, in a process of its own.

    Attributes:
        runs: The placeholders of this job.
        must_wait: True if trials of the method had not ended when it was tried the last time.
    """

    def __init__(self, sweep: Sweep, method: str, number: int) -> None:
        self.sweep, self.method, self.number = sweep, method, number
        self.runs: list[Run] = []
        self.must_wait = False
        self.trials = self._trials()
        self.process: subprocess.Popen[bytes] | None = None
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - not a pipe: a full one would block the process
        self.next_try = 0.0
        self.crashes = 0

    def _trials(self) -> set[str]:
        """The identities of the method's trials. Those that are added later are left to `choose`."""
        with contextlib.suppress(OSError, ValueError):
            search = read_search(self.sweep.trials)
            if search and self.method in search.methods:
                return {run for trial in search.methods[self.method].trials for run in trial.runs.values()}
        return set()

    def look(self, busy: Collection[Run]) -> dict[str, Any]:
        """Has the setting chosen, without waiting for it.

        Args:
            busy: The runs that this worker trains or is going to train. While a trial of the method is among them,
                nothing is tried.

        Returns:
            What `choose` has printed; {} while it has not ended or is not due.
        """
        if self.process is None:
            if time.monotonic() >= self.next_try and not any(hash_of(run.name) in self.trials for run in busy):
                self._start()
            return {}
        if self.process.poll() is None:
            return {}
        said = self._said()
        self.process, self.next_try = None, time.monotonic() + PAUSE
        self.must_wait = "waits_for" in said
        return said

    def _start(self) -> None:
        command = [sys.executable, *_entry.python_arguments("choose"), str(self.sweep.folder)]
        self.output.seek(0)
        self.output.truncate()
        # In a session of its own: the signals of the scheduler are for the worker, which ends it.
        self.process = subprocess.Popen(
            [*command, self.method, str(self.number)],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            start_new_session=True,
        )

    def _said(self) -> dict[str, Any]:
        """The object that `choose` has printed. A crash is tried again, a few times."""
        assert self.process is not None
        self.output.seek(0)
        with contextlib.suppress(ValueError, IndexError):
            said = json.loads(self.output.read().splitlines()[-1])
            if self.process.returncode == 0 and isinstance(said, dict):
                return said
        self.crashes += 1
        words = f"choose ended with exit status {self.process.returncode}; see the output of its job"
        say(f"{self.method}: {words}")
        return {"error": words} if self.crashes >= MOST_CRASHES else {}

    def stop(self) -> None:
        """Ends `choose`. The next one goes on where it was."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None


def grouped(sweep: Sweep, placeholders: list[Run]) -> list[Choosing]:
    """The choices that these runs wait for."""
    found: dict[tuple[str, int], Choosing] = {}
    for run in placeholders:
        parsed = parse_placeholder(run.name)
        assert parsed is not None
        method, number, _ = parsed
        if (method, number) not in found:
            found[method, number] = Choosing(sweep, method, number)
        found[method, number].runs.append(run)
    return list(found.values())
