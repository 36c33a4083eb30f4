"""What the loop tells and asks whoever started it."""

from typing import Any


class StopRequested(Exception):
    """Training has saved a checkpoint and ended early, because it was asked to."""


class Control:
    """The default: nobody listens and nobody asks for a stop."""

    def should_stop(self) -> bool:
        """Asked at every step boundary and between the batches of a validation: it must be quick."""
        return False

    def report(self, event: str, **values: Any) -> None:
        """An event of training/child.py's protocol."""
