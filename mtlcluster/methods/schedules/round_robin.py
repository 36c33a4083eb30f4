from collections.abc import Sequence

from mtlcluster.methods.base import Schedule


class RoundRobin(Schedule):
    """Trains one task a step, in turn."""

    def active(self, step: int) -> Sequence[int]:
        return (step % len(self.context.tasks),)
