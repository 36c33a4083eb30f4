"""The tasks' gradients, smoothed over the steps; several methods keep them."""

from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster.methods.base import Active


class Smoothed(nn.Module):
    """y_i ← y_i − rate_i (y_i − g_i), from zero, at the steps at which task i is active. It keeps T gradients."""

    rows: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.empty(tasks, 0))  # [T, n], from the first step on

    def forward(self, jacobian: Tensor, active: Active, rate: Tensor) -> Tensor:
        """Smooths the gradients of a step.

        Args:
            jacobian: [A, n], the gradients g_i.
            active: index of the active tasks.
            rate: [A, 1], or a scalar for all.

        Returns:
            y, [A, n]. It may be the state itself, so do not change it.
        """
        if not self.rows.numel():
            self.rows = jacobian.new_zeros(len(self.rows), jacobian.shape[1])
        smoothed = self.rows[active].lerp_(jacobian, rate)
        if not isinstance(active, slice):  # else a view
            self.rows[active] = smoothed
        return smoothed

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict[prefix + "rows"]
        self.rows = torch.empty_like(saved, device=self.rows.device)  # n is not known before the first step
        super()._load_from_state_dict(state_dict, prefix, *args)
