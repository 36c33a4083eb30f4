from collections.abc import Sequence

from mtlcluster.methods.base import Context, Schedule


class Single(Schedule):
    """Trains one task alone: the single-task baseline that every comparison is measured against.

    Args:
        task: the task.
    """

    def __init__(self, context: Context, *, task: str) -> None:
        super().__init__(context)
        self.task = context.index(task)

    def active(self, step: int) -> Sequence[int]:
        return (self.task,)

    def trained(self) -> Sequence[int]:
        return (self.task,)
