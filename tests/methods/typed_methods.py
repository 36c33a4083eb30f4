"""Methods of one's own, one of each slot, as somebody writes them who has their types checked."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

import mtlcluster
from mtlcluster import Active, Context, Gradient, Weighting


class Mean(Gradient):
    """The mean of the gradients, times a factor."""

    needs = "jacobian"

    def __init__(self, context: Context, *, factor: float | None = 1.0, form: Literal["mean"] = "mean") -> None:
        super().__init__(context)
        self.factor, self.form = factor, form

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        return jacobian.mean(0) * (1.0 if self.factor is None else self.factor)


class Counts(Weighting):
    """Counts the steps of each task."""

    linear = False
    seen: Tensor

    def __init__(self, context: Context, *, by: float) -> None:
        super().__init__(context)
        self.register_buffer("seen", torch.zeros(len(context.tasks)))
        self.by = by

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        self.seen[active] += self.by
        return losses.sum()


class Last(mtlcluster.Schedule):
    """The last task alone."""

    def active(self, step: int) -> Sequence[int]:
        return (len(self.context.tasks) - 1,)

    def observe_validation(self, values: Mapping[str, float]) -> None:
        assert values
