from typing import ClassVar

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Weighting
from mtlcluster.methods.weightings.scale_invariant import safe_log


class GeometricLoss(Weighting):
    """The geometric mean of the losses, (Π L_i)^{1/T}, T the number of active tasks.

    The weight of a loss is F / (T L_i), so equal relative changes count alike. Losses must be positive, see `safe_log`
    in scale_invariant.py.
    """

    paper = (
        "Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task "
        "Learning, CVPR Workshops 2019"
    )
    linear: ClassVar[bool] = False

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return torch.exp(safe_log(losses).mean())
