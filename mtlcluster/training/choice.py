"""What a gradient method makes of a Gramian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


@dataclass
class Choice:
    """What a gradient method saw of the A tasks' own, unweighted gradients, and what it made of them; on the CPU.

    cosines [A, A], norms [A]; weights a [A], None where it gave a direction instead.
    """

    cosines: Tensor
    norms: Tensor
    weights: Tensor | None = None


def seen_by_a_method(gramian: Tensor) -> Choice:
    norms = gramian.diagonal().clamp_min(0).sqrt()
    return Choice(gramian / (norms[:, None] * norms), norms)


def choose(gradient: Gradient, gramian: Tensor, factors: Tensor, scale: float, active: Active) -> Choice:
    """gramian: [A, A], of unweighted gradients times `scale`. factors: the loss weights [A]. Both float64, on the
    CPU.
    """
    choice = seen_by_a_method(gramian / scale**2)
    if bool(gramian.isfinite().all()):
        weighted = factors[:, None] * (gramian / scale**2) * factors
        choice.weights = gradient.weights(weighted, active)
    else:       # an overflow in fp16: the scaler will see it and leave out the step
        choice.weights = torch.ones_like(factors)
    return choice


def to_cpu(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A Gramian [A, A] and loss weights [A], in one transfer, float64."""
    both = torch.cat([gramian.to(weights.device).flatten(), weights.double()]).cpu()
    return both[: -len(weights)].view(len(weights), -1), both[-len(weights) :]
