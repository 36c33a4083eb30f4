"""An Adam optimizer for a weighting's own parameters, separate from the optimizer of the run."""

from typing import Any

import torch
from torch import Tensor

from mtlcluster.methods.base import Active

State = dict[str, Any]


class OwnAdam:
    """Trains one value per task, at each step those of the active tasks only.

    The values are a buffer of the weighting, which is given to every call: moving a module to its device replaces its
    buffers, so the Adam is made late, at the first call.

    Args:
        lr: the learning rate.
        weight_decay: as in torch.optim.Adam.
    """

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        self.adam: torch.optim.Adam | None = None

    @property
    def is_new(self) -> bool:
        """True if it has made no step and holds no state."""
        return self.adam is None

    def step(self, values: Tensor, gradient: Tensor, active: Active) -> None:
        """Makes one step.

        Args:
            values: [T], changed in place. Those of the other tasks stay, which Adam's momentum and weight decay would
                move, too.
            gradient: [A].
            active: the active tasks.
        """
        before = values.clone()
        values.grad = torch.zeros_like(before)
        values.grad[active] = gradient.to(before)
        self._of(values).step()
        before[active] = values[active]
        values.copy_(before)

    def state_dict(self, values: Tensor) -> State:
        return self._of(values).state_dict()

    def load_state_dict(self, values: Tensor, state: State) -> None:
        self._of(values).load_state_dict(state)

    def _of(self, values: Tensor) -> torch.optim.Adam:
        if self.adam is None:
            self.adam = torch.optim.Adam([values], lr=self.lr, weight_decay=self.weight_decay, fused=True)
        return self.adam
