import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.learned import OfEachTask


class ImpartialLoss(Weighting):
    """Learns the scale s of each task's loss: Σ e^s L − s, so that all e^s L come near 1 (IMTL-L).

    The s start at 0. The run's optimizer trains them without weight decay, each only when its task is active. Losses
    must be positive: with one that stays below 0, its s grows without bound.
    """

    paper = "Liu et al., Towards Impartial Multi-Task Learning, ICLR 2021, the loss balance"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.log_scale = OfEachTask(len(context.tasks))

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        s = self.log_scale.at(active)
        return (torch.exp(s) * losses - s).sum()
