from typing import Any, ClassVar

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.options import NotNegative, Positive
from mtlcluster.methods.own_adam import OwnAdam
from mtlcluster.methods.weightings.scale_invariant import safe_log


class FAMO(Weighting):
    """Learns weights by which the logarithms of all losses fall at the same rate, with another forward at each step.

    With z = softmax(ξ) and D = L + 1e-8 it minimises c Σ z log D, where c = 1 / Σ (z / D) and z are held constant: the
    weights c z / D sum to 1. (The losses' lower bound is taken as 0, as its authors do.) After each step ξ descends
    along Jᵀ(log D_before − log D_after), J the Jacobian of the softmax, with an Adam of its own. So a task whose loss
    fell less than the others' gets more weight.

    All of it is over the active tasks only; the ξ of the others stays. Losses must be positive, see `safe_log` in
    scale_invariant.py. A change that is not finite counts as none.

    Args:
        lr: the learning rate of its Adam.
        gamma: the weight decay of its Adam.
    """

    paper = "Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, algorithm 1"
    linear: ClassVar[bool] = False
    needs_losses_after: ClassVar[bool] = True
    xi: Tensor

    def __init__(self, context: Context, *, lr: Positive = 0.025, gamma: NotNegative = 1e-3) -> None:
        super().__init__(context)
        self.register_buffer("xi", torch.zeros(len(context.tasks)))
        self.adam = OwnAdam(lr, weight_decay=gamma)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        z = torch.softmax(self.xi[active], dim=0)
        c = 1 / (z / (losses.detach() + 1e-8)).sum()
        return c * (z * safe_log(losses)).sum()

    def observe_losses_after(self, before: Tensor, after: Tensor, active: Active) -> None:
        fall = torch.nan_to_num(safe_log(before) - safe_log(after), nan=0.0, posinf=0.0, neginf=0.0)
        z = torch.softmax(self.xi[active], dim=0)
        self.adam.step(self.xi, z * (fall - (z * fall).sum()), active)

    def learned_weights(self) -> Tensor:
        return torch.softmax(self.xi, dim=0)

    def get_extra_state(self) -> dict[str, Any]:
        return self.adam.state_dict(self.xi)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(self.xi, state)
