import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.options import Positive


class DynamicWeightAverage(Weighting):
    """Gives more weight to a loss that falls slowly: w = T · softmax(r / temperature), r_i = L_i(e − 1) / L_i(e − 2).

    L_i(e) is the mean training loss of epoch e. In the first two epochs w = 1. A task has r = 1 if it has no mean in
    one of the two epochs, or a mean of 0 in the earlier one.

    Args:
        temperature: a larger one makes the weights more alike.
    """

    paper = "Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019, equation 7"
    weights: Tensor
    previous: Tensor

    def __init__(self, context: Context, *, temperature: Positive = 2.0) -> None:
        super().__init__(context)
        self.temperature = temperature
        self.register_buffer("weights", torch.ones(len(context.tasks)))
        self.register_buffer("previous", torch.full((len(context.tasks),), float("nan"), dtype=torch.float64))

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return (self.weights[active] * losses).sum()

    def observe_epoch(self, mean_losses: Tensor) -> None:
        latest = mean_losses.to(self.previous)
        if not self.previous.isnan().all():
            ratio = torch.nan_to_num(latest / self.previous, nan=1.0, posinf=1.0)
            self.weights.copy_(len(ratio) * torch.softmax(ratio / self.temperature, dim=0))
        self.previous.copy_(latest)
