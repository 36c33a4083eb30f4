import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.learned import OfEachTask


class Uncertainty(Weighting):
    """Learns the log variance s of each task: Σ e^{−s} L + s/2, and ½ e^{−s} L + s/2 for a regression.

    The s start at 0. The run's optimizer trains them without weight decay, each only when its task is active.
    """

    paper = "Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, equation 10"
    factor: Tensor

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.log_variance = OfEachTask(len(context.tasks))
        factors = [0.5 if task.kind == "regression" else 1.0 for task in context.tasks]
        self.register_buffer("factor", torch.tensor(factors), persistent=False)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        s = self.log_variance.at(active)
        return (self.factor[active] * torch.exp(-s) * losses + s / 2).sum()
