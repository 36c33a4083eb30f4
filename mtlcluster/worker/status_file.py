"""Writing status.json: the worker tells there how far a run is, also when the disk is full for a while."""

import contextlib
import os
import time

from mtlcluster.sweep.folder import Run
from mtlcluster.sweep.locks import is_replaced
from mtlcluster.sweep.status import Status, write_status

HEARTBEAT = 10.0  # seconds between two writes while nothing happens
RETRY_AFTER = 2.0  # seconds until a write that failed is tried again
GIVE_UP_AFTER = 1800.0  # seconds for which the end of a run is tried to be written,
GIVE_UP_IN_A_HURRY = 10.0  # and if the job is about to end


def say(line: str) -> None:
    """Prints a line into the worker's log. The log may be on the same full disk: an error is ignored."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def try_write(run: Run, status: Status) -> str:
    """Writes status.json. Returns the error, or ''."""
    try:
        write_status(run.status, status)
    except OSError as error:
        return error.strerror or str(error)
    return ""


class StatusFile:
    """The status.json of a run during one attempt: written at every change, and as a heartbeat.

    Attributes:
        status: The status to write. The attempt changes it.
        changed: Set by the attempt when status.json must be written soon.
        trouble: The error of the last write, or ''.
    """

    def __init__(self, run: Run, status: Status) -> None:
        self.run, self.status = run, status
        self.changed, self.trouble = True, ""
        # By a monotonic clock: if somebody set the clock back, a run would be silent until the old time is reached.
        self.began, self.elapsed_before, self.last_try = time.monotonic(), status.elapsed, 0.0
        # Identifies the run's folder. The lock file would not do, for it may be purged as an old file.
        self.folder = os.open(run.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def is_due(self) -> bool:
        """True if something happened, or a heartbeat is due."""
        wait = RETRY_AFTER if self.trouble else 0.0 if self.changed else HEARTBEAT
        return time.monotonic() - self.last_try >= wait

    def write(self) -> bool:
        """Writes status.json. If that fails, it is due again after RETRY_AFTER seconds.

        Returns:
            False if the run's folder was removed, and perhaps made anew by a later submission. Nothing is written then.
        """
        self.last_try = time.monotonic()
        if is_replaced(self.run.folder, self.folder):
            self.changed, self.trouble = False, ""
            return False
        self.status.heartbeat = time.time()
        self.status.elapsed = self.elapsed_before + self.last_try - self.began
        trouble = try_write(self.run, self.status)
        if trouble and trouble != self.trouble:
            say(f"{self.run.status}: {trouble}")
        self.changed, self.trouble = bool(trouble), trouble
        return True

    def close(self) -> None:
        os.close(self.folder)


class UnwrittenEnd:
    """The end of a run that could not be written: the disk is full or read-only. It is tried again for a while."""

    def __init__(self, run: Run, status: Status, trouble: str) -> None:
        self.run, self.status = run, status
        self.since = self.last_try = time.monotonic()
        say(f"{run.status}: {trouble}; it should say: {status.state} {status.error}".rstrip())
        status.notes.append(f"how it ended could not be written at first: {trouble}")

    def is_settled(self, hurry: bool) -> bool:
        """True if the status is written by now, or if writing it was given up.

        Args:
            hurry: The job is about to end.
        """
        now = time.monotonic()
        if now - self.last_try < RETRY_AFTER:
            return False
        self.last_try = now
        limit = GIVE_UP_IN_A_HURRY if hurry else GIVE_UP_AFTER
        return not try_write(self.run, self.status) or now - self.since > limit or not self.run.folder.is_dir()
