import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.options import PerTask


class Static(Weighting):
    """Fixed weights, Σ w_i L_i. A sweep of these is the tuned scalarization that a method has to beat.

    Args:
        weights: by task. A task that is left out has the weight 1.
    """

    paper = "Xin et al., Do Current Multi-Task Optimization Methods in Deep Learning Even Help?, NeurIPS 2022"
    weights: Tensor

    def __init__(self, context: Context, *, weights: PerTask) -> None:
        super().__init__(context)
        values = torch.ones(len(context.tasks))
        for name, weight in weights.items():
            values[context.index(name)] = weight
        self.register_buffer("weights", values)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return (self.weights[active] * losses).sum()
