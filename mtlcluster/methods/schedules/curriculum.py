import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Schedule
from mtlcluster.methods.options import Count, Stages


class Curriculum(Schedule):
    """Trains the tasks in stages: given by hand, or found from how hard the tasks are.

    By hand: `stages` says which tasks train from which epoch on. A task that it does not name is neither trained nor
    validated.

    Without `stages`: all tasks train for `assess` epochs, the assessment. Then only the first task in `order` trains.
    After each further `every` epochs, the next task joins.

    How hard a task is: its mean unweighted training loss in the second half of the assessment, divided by that in the
    first half. A smaller ratio means an easier task. A ratio that is not finite counts as 1. Ties keep the problem's
    order.

    Args:
        stages: for the first epoch of each stage (the first stage's is 0) its tasks, such as {0: [a], 3: [a, b]}.
        order: which tasks come first.
        assess: the number of epochs of the assessment.
        every: the number of epochs of a stage.
    """

    paper = "Bengio et al., Curriculum Learning, ICML 2009, here over tasks"
    sums: Tensor
    counts: Tensor
    found: Tensor

    def __init__(
        self,
        context: Context,
        *,
        stages: Stages = None,
        order: Literal["easiest_first", "hardest_first"] = "easiest_first",
        assess: Count = 1,
        every: Count = 1,
    ) -> None:
        super().__init__(context)
        tasks, epochs = len(context.tasks), math.ceil(context.total_steps / context.steps_per_epoch)
        self.hardest_first, self.assess, self.every = order == "hardest_first", assess, every
        self.by_hand: dict[int, list[int]] | None = None
        if stages is not None:
            self.by_hand = {e: sorted({context.index(name) for name in names}) for e, names in sorted(stages.items())}
            if 0 not in self.by_hand:
                raise ValueError("stages should begin with epoch 0")
            if empty := [str(epoch) for epoch, stage in self.by_hand.items() if not stage]:
                raise ValueError(f"the stage from epoch {empty[0]} on names no task")
            if (latest := max(self.by_hand)) >= epochs:
                raise ValueError(f"the stage from epoch {latest} on never comes: the run has {epochs} epochs")
        elif (needed := assess + every * (tasks - 1) + 1) > epochs:
            raise ValueError(f"{epochs} epochs are too few: the last of {tasks} tasks would come in epoch {needed}")
        self.part = 0  # the half of the assessment (0 or 1) that the current step is in
        self.register_buffer("sums", torch.zeros(2, tasks))
        self.register_buffer("counts", torch.zeros(2, tasks))
        self.register_buffer("found", torch.full((tasks,), -1))  # the order, once it is known

    def active(self, step: int) -> Sequence[int]:
        epoch = step // self.context.steps_per_epoch
        if self.by_hand is not None:
            return self.by_hand[max(begin for begin in self.by_hand if begin <= epoch)]
        if epoch < self.assess:
            self.part = 2 * step // (self.assess * self.context.steps_per_epoch)
            return range(len(self.found))
        if self.found[0] < 0:
            left = (self.sums[1] / self.counts[1] / (self.sums[0] / self.counts[0])).cpu()
            left = torch.where(left.isfinite(), left, 1.0)
            self.found = left.argsort(stable=True, descending=self.hardest_first)
        return sorted(self.found[: 1 + (epoch - self.assess) // self.every].tolist())

    def trained(self) -> Sequence[int]:
        if self.by_hand is None:
            return range(len(self.found))
        return sorted(set().union(*self.by_hand.values()))

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        if self.by_hand is None and self.found[0] < 0:
            # On the losses' device, so that the CPU does not wait for the losses.
            self.sums, self.counts = self.sums.to(losses.device), self.counts.to(losses.device)
            self.sums[self.part, active] += losses
            self.counts[self.part, active] += 1
