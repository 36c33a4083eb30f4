from collections.abc import Sequence

from mtlcluster.methods.base import Context, Schedule


class Sequential(Schedule):
    """Trains one task to its end, then the next: each has an equal part of the run's steps.

    All tasks are validated throughout, which shows what a later task does to an earlier one. Learning-rate schedule and
    early stopping are those of the whole run.

    Args:
        order: every task once. Left out, it is the order of the problem.
    """

    def __init__(self, context: Context, *, order: list[str] | None = None) -> None:
        super().__init__(context)
        names = [task.name for task in context.tasks]
        self.order = [context.index(name) for name in (names if order is None else order)]
        if left_out := sorted(set(names) - {names[i] for i in self.order}):
            raise ValueError(f"order leaves out {', '.join(left_out)}; to train fewer tasks, say so in tasks")
        if len(self.order) > len(names):
            raise ValueError(f"order names a task twice: {', '.join(order or ())}")
        if context.total_steps < len(names):
            raise ValueError(f"{context.total_steps} steps are too few to train {len(names)} tasks one after the other")

    def active(self, step: int) -> Sequence[int]:
        return (self.order[step * len(self.order) // self.context.total_steps],)
