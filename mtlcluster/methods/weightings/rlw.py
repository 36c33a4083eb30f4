import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting


class RandomLossWeighting(Weighting):
    """Draws new random weights at every step: w is the softmax of a standard normal draw. They sum to 1, not to T.

    Each step draws for all T tasks, so the random numbers do not depend on which are active; the softmax is over the
    active ones. Before the first draw the weights are equal.
    """

    paper = "Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning, TMLR 2022"
    draw: Tensor

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        # Not in the checkpoint: each step begins with its own draw, and the generator is there.
        self.register_buffer("draw", torch.zeros(len(context.tasks)), persistent=False)

    def begin_step(self) -> None:
        self.draw.copy_(torch.randn(len(self.draw), generator=self.context.generator), non_blocking=True)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return (torch.softmax(self.draw[active], dim=0) * losses).sum()
