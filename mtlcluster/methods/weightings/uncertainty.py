import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.learned import of_each_task
from mtlcluster.methods.options import Positive


class Uncertainty(Weighting):
    """Learns the log variance s of each task: Σ e^{−s} L + s/2, and ½ e^{−s} L + s/2 for a regression.

    The s start at 0. They are trained without weight decay, each only when its task is active.

    Args:
        lr: the learning rate of its own Adam, without warm-up and schedule. Null: the run's optimizer trains the s, at
            the model's rate.
    """

    paper = "Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, equation 10"
    factor: Tensor

    def __init__(self, context: Context, *, lr: Positive | None = 0.025) -> None:
        super().__init__(context)
        self.log_variance = of_each_task(len(context.tasks), lr)
        factors = [0.5 if task.kind == "regression" else 1.0 for task in context.tasks]
        self.register_buffer("factor", torch.tensor(factors), persistent=False)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return self._total(self.log_variance.at(active), losses, active)

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        self.log_variance.descend(lambda s: self._total(s, losses, active), active)

    def learned_weights(self) -> Tensor:
        return torch.exp(-self.log_variance.all())

    def _total(self, s: Tensor, losses: Tensor, active: Active) -> Tensor:
        return (self.factor[active] * torch.exp(-s) * losses + s / 2).sum()
