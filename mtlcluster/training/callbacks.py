"""Callbacks of the training loop: report progress, ask whether to stop."""

from typing import Any


class StopRequested(Exception):
    """Training was asked to stop. It has saved a checkpoint and ended early."""


class Callbacks:
    """Callbacks that do nothing. Subclasses listen to the loop, or ask it to stop."""

    def should_stop(self) -> bool:
        """Says whether to stop. It is called after every step and every batch of a validation, so it must be quick.

        Returns:
            True: the loop saves a checkpoint and ends with StopRequested.
        """
        return False

    def report(self, event: str, **values: Any) -> None:
        """Gets an event of the training.

        Args:
            event: "started", "progress", "epoch", "saving", "saved", "done" or "stopped".
            values: The values of the event, see commands/child.py.
        """
