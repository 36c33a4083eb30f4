"""The tasks' gradients, smoothed over the steps: what several methods keep."""

from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster.methods.base import Active


class Smoothed(nn.Module):
    """y_i ← y_i − rate_i (y_i − g_i) from zero, at the steps at which task i is active: the memory of T gradients."""

    rows: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.empty(tasks, 0))  # [T, n], from the first step on

    def forward(self, jacobian: Tensor, active: Active, rate: Tensor) -> Tensor:
        """jacobian: [A, n]. rate: [A, 1] or one for all. Returns y [A, n], which may be the state itself: not to be
        changed.
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
