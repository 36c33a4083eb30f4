"""Reports the progress of the training loop, and notes for the user."""

import time
from typing import Any

from mtlcluster.sweep.status import UNDEFINED
from mtlcluster.training.callbacks import Callbacks

PROGRESS_EVERY = 1.0  # seconds


class Reporter:
    """Sends the reports to the callbacks.

    Attributes:
        notes: Sentences for the user, the oldest first.
    """

    def __init__(self, callbacks: Callbacks, total_steps: int) -> None:
        self.callbacks, self.total_steps = callbacks, total_steps
        self.notes: list[str] = []
        self.reported_at = float("-inf")  # when the last "progress" was sent
        self.begin(0)

    def begin(self, step: int) -> None:
        """Starts the clock at the first step of an attempt. The time that is left is estimated by it."""
        self.began_at, self.first_step = time.monotonic(), step

    def note(self, notes: list[str]) -> None:
        """Adds the notes that are new. An undefined value gets one note, even if a later reason has other words."""
        known = {note.partition(UNDEFINED)[0] for note in self.notes}
        self.notes += [note for note in notes if note.partition(UNDEFINED)[0] not in known]

    def is_progress_due(self) -> bool:
        """True if "progress" is due now. After that, the next report is due in PROGRESS_EVERY seconds."""
        now = time.monotonic()
        if now - self.reported_at < PROGRESS_EVERY:
            return False
        self.reported_at = now
        return True

    def report(self, event: str, step: int, **values: Any) -> None:
        """Reports an event at step `step`, with an estimate of the seconds that are left."""
        done = step - self.first_step
        left = (time.monotonic() - self.began_at) / done * (self.total_steps - step) if done else None
        self.callbacks.report(event, step=step, seconds_left=left, notes=self.notes, **values)
