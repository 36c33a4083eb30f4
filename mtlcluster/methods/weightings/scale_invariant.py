from typing import ClassVar

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Weighting


class ScaleInvariant(Weighting):
    """The sum of the logarithms, Σ log L_i: the weight of a loss is 1 / L_i, so its scale does not matter.

    Losses must be positive, see `safe_log`.
    """

    paper = "Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, as the baseline SI"
    linear: ClassVar[bool] = False

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return safe_log(losses).sum()


def safe_log(losses: Tensor) -> Tensor:
    """log(L + 1e-8), for losses [A].

    A loss of 0 gets a finite value and a weight of at most 1e8; its gradient is 0, or no more than the rounding of the
    loss. A negative loss gives NaN, and the loop stops the run. A check here would have to wait for the device.
    """
    return torch.log(losses + 1e-8)
