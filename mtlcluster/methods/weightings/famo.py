from typing import Any, ClassVar

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.options import NotNegative, Positive
from mtlcluster.methods.weightings.scale_invariant import safe_log


class FAMO(Weighting):
    """Learns weights by which the logarithms of all losses fall at the same rate, from one forward more per step.

    With z = softmax(ξ) and D = L + 1e-8 (the losses' lower bound taken as 0, as its authors do) it minimises
    c Σ z log D, where c = 1 / Σ (z / D) and z are held constant: the weights c z / D sum to 1. After each step ξ
    descends along Jᵀ(log D_before − log D_after), J the Jacobian of the softmax, with an Adam of its own, whose weight
    decay is `gamma`: a task whose loss fell less than the others' gets more weight. All of it is over the active tasks
    only; for Adam's moments the others' losses did not change, and their ξ stays. Losses must be positive, see
    `safe_log` in scale_invariant.py; a change that is not finite counts as none.
    """

    paper = "Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, algorithm 1"
    linear: ClassVar[bool] = False
    needs_losses_after: ClassVar[bool] = True
    xi: Tensor

    def __init__(self, context: Context, *, lr: Positive = 0.025, gamma: NotNegative = 1e-3) -> None:
        super().__init__(context)
        self.lr, self.gamma = lr, gamma
        self.register_buffer("xi", torch.zeros(len(context.tasks)))
        self.optimizer: torch.optim.Adam | None = None

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        z = torch.softmax(self.xi[active], dim=0)
        c = 1 / (z / (losses.detach() + 1e-8)).sum()
        return c * (z * safe_log(losses)).sum()

    def observe_losses_after(self, before: Tensor, after: Tensor, active: Active) -> None:
        fall = torch.nan_to_num(safe_log(before) - safe_log(after), nan=0.0, posinf=0.0, neginf=0.0)
        xi = self.xi.clone()
        z = torch.softmax(xi[active], dim=0)
        self.xi.grad = torch.zeros_like(xi)
        self.xi.grad[active] = (z * (fall - (z * fall).sum())).to(xi)
        self._adam().step()
        xi[active] = self.xi[active]
        self.xi.copy_(xi)  # Adam's momentum and weight decay move the tasks that are not active, too

    def _adam(self) -> torch.optim.Adam:
        if self.optimizer is None:  # made late: moving the module to its device replaces the buffers
            self.optimizer = torch.optim.Adam([self.xi], lr=self.lr, weight_decay=self.gamma, fused=True)
        return self.optimizer

    def get_extra_state(self) -> dict[str, Any]:
        return self._adam().state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._adam().load_state_dict(state)
