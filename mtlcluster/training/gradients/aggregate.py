"""What a gradient method makes of a Gramian."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


@dataclass
class Choice:
    """What a gradient method saw of the A tasks' own, unweighted gradients, and what it made of them.

    cosines [A, A], norms [A]; weights a [A] on the CPU, None where it gave a direction instead.
    """

    cosines: np.ndarray
    norms: np.ndarray
    weights: Tensor | None = None


def seen_by_a_method(gramian: np.ndarray) -> Choice:
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0))
    with np.errstate(divide="ignore", invalid="ignore"):  # a gradient of zeros has no cosine
        return Choice(gramian / (norms[:, None] * norms), norms)


def choose(gradient: Gradient, gramian: Tensor, factors: Tensor, scale: float, active: Active) -> Choice:
    """gramian: [A, A], of unweighted gradients times `scale`. factors: the loss weights [A]. Both float64, on the
    CPU.
    """
    inner, weights = gramian.numpy() / scale**2, factors.numpy()
    choice = seen_by_a_method(inner)
    if np.isfinite(inner).all():
        choice.weights = gradient.weights(torch.from_numpy(weights[:, None] * inner * weights), active)
    else:  # an overflow in fp16: the scaler will see it and leave out the step
        choice.weights = torch.ones_like(factors)
    return choice


def to_cpu(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A Gramian [A, A] and loss weights [A], in one transfer, float64."""
    both = torch.cat([gramian.to(weights.device).flatten(), weights.double()]).cpu()
    return both[: -len(weights)].view(len(weights), -1), both[-len(weights) :]
