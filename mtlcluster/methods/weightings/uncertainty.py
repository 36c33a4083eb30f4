import torch
from torch import Tensor, nn

from mtlcluster.methods.base import Active, Context, Weighting


class Uncertainty(Weighting):
    """Learns each task's log variance s: Σ e^{−s} L + s/2 for classification, Σ ½ e^{−s} L + s/2 for regression.

    The s start at 0 and are trained by the run's optimizer without weight decay, each only when its task is active.
    """

    paper = "Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, equation 10"
    factor: Tensor

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        # One parameter per task: without a gradient an optimizer leaves an inactive task's s alone, momentum included.
        self.log_variance = nn.ParameterList(torch.zeros(()) for _ in context.tasks)
        factors = [0.5 if task.kind == "regression" else 1.0 for task in context.tasks]
        self.register_buffer("factor", torch.tensor(factors), persistent=False)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        chosen = range(len(self.log_variance))[active] if isinstance(active, slice) else active.tolist()
        s = torch.stack([self.log_variance[i] for i in chosen])
        return (self.factor[active] * torch.exp(-s) * losses + s / 2).sum()
