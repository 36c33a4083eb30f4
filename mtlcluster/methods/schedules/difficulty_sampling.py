from collections.abc import Sequence

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Schedule
from mtlcluster.methods.options import Count, Fraction


class DifficultySampling(Schedule):
    """Draws more samples of a batch for a task with a larger loss (dynamic difficulty sampling).

    The share of a task is its loss over the sum of all losses, from exponential running means of the unweighted losses.
    It is computed anew at every `every`-th step. It is never below `floor`; the other tasks yield in proportion. Until
    every task has had a loss, the shares are equal.

    A sample that is drawn for a task trains that task only; one without its label trains none. All samples that train
    count alike: a task of twice the share has twice the weight. If floor · batch size ≥ 1, every task gets a sample of
    every whole batch; else it may have none for long.

    Args:
        every: the number of steps between two computations of the shares.
        smoothing: the decay of the running means.
        floor: the smallest share.
    """

    means: Tensor
    current: Tensor

    def __init__(
        self, context: Context, *, every: Count = 20, smoothing: Fraction = 0.9, floor: Fraction = 0.1
    ) -> None:
        super().__init__(context)
        tasks = len(context.tasks)
        if tasks * floor > 1:
            raise ValueError(f"a floor of {floor:g} is too high for {tasks} tasks: at most {1 / tasks:.3g}")
        self.every, self.smoothing, self.floor = every, smoothing, floor
        self.register_buffer("means", torch.full((tasks,), float("nan")))
        self.register_buffer("current", torch.full((tasks,), 1 / tasks, dtype=torch.float64))

    def active(self, step: int) -> Sequence[int]:
        return range(len(self.context.tasks))

    def shares(self, step: int) -> Tensor:
        if step % self.every == 0:
            losses = self.means.double().cpu().clamp_min(0)
            if bool(losses.isfinite().all()) and bool(losses.any()):
                self.current = with_floor(losses / losses.sum(), self.floor)
        return self.current

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        self.means = self.means.to(losses.device)  # the losses stay where they are: nothing waits for the device
        before = self.means[active]
        self.means[active] = torch.where(before.isnan(), losses, torch.lerp(losses, before, self.smoothing))


def with_floor(shares: Tensor, floor: float) -> Tensor:
    """shares: [T], sums to 1. Lifts those below `floor` (≤ 1/T) to it and scales the others so that the sum stays."""
    low = shares < floor
    while True:
        lifted = torch.where(low, floor, shares * (1 - floor * int(low.sum())) / shares[~low].sum())
        if not bool((below := (lifted < floor) & ~low).any()):
            return lifted
        low |= below
