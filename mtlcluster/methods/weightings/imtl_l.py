import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.learned import of_each_task
from mtlcluster.methods.options import Positive


class ImpartialLoss(Weighting):
    """Learns the scale s of each task's loss: Σ e^s L − s, so that all e^s L come near 1 (IMTL-L).

    The s start at 0. They are trained without weight decay, each only when its task is active. Losses must be positive:
    with one that stays below 0, its s grows without bound.

    Args:
        lr: the learning rate of its own Adam, without warm-up and schedule. Null: the run's optimizer trains the s, at
            the model's rate.
    """

    paper = "Liu et al., Towards Impartial Multi-Task Learning, ICLR 2021, the loss balance"

    def __init__(self, context: Context, *, lr: Positive | None = 0.025) -> None:
        super().__init__(context)
        self.log_scale = of_each_task(len(context.tasks), lr)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return _total(self.log_scale.at(active), losses)

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        self.log_scale.descend(lambda s: _total(s, losses), active)

    def learned_weights(self) -> Tensor:
        return torch.exp(self.log_scale.all())


def _total(s: Tensor, losses: Tensor) -> Tensor:
    return (torch.exp(s) * losses - s).sum()
