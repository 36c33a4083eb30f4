"""From the Gramian of the tasks' gradients and the loss weights to the factors of a gradient method."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlcluster.methods.answers import gradient_weights
from mtlcluster.methods.base import Active, Gradient


@dataclass
class Aggregation:
    """The A tasks' gradients in figures, and the factors that the gradient method computed.

    Attributes:
        cosines: [A, A], between the unweighted gradients; NaN for a gradient of zeros.
        norms: [A], of the unweighted gradients.
        factors: [A], float64, on the CPU: the direction is Σ factors_i · weights_i · g_i. None for a method that gives
            the direction itself.
    """

    cosines: np.ndarray
    norms: np.ndarray
    factors: Tensor | None = None


def aggregate(method: Gradient, gramian: Tensor, weights: Tensor, active: Active, scale: float = 1.0) -> Aggregation:
    """Asks a gradient method for its factors.

    Args:
        method: a gradient method that needs a Gramian.
        gramian: [A, A], inner products of the unweighted gradients, each gradient times `scale`. On any device.
        weights: [A], the loss weights. On any device.
        active: index that selects the A active tasks from a per-task tensor.
        scale: the loss scale of fp16.

    Returns:
        The factors, with the cosines and norms that they were chosen by. All factors are 1 when the Gramian is not
        finite: that is an overflow in fp16, and the gradient scaler will skip the step.
    """
    gramian, weights = to_cpu(gramian, weights)
    inner, own = gramian.numpy() / scale**2, weights.numpy()
    found = cosines_and_norms(inner)
    if np.isfinite(inner).all():
        found.factors = gradient_weights(method, torch.from_numpy(own[:, None] * inner * own), active)
    else:
        found.factors = torch.ones_like(weights)
    return found


def cosines_and_norms(gramian: np.ndarray) -> Aggregation:
    """The cosines and norms in a Gramian [A, A]. The factors are left open."""
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0))
    with np.errstate(divide="ignore", invalid="ignore"):  # a gradient of zeros has no cosine
        return Aggregation(gramian / (norms[:, None] * norms), norms)


def to_cpu(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A Gramian [A, A] and loss weights [A] as float64 on the CPU, in one transfer."""
    both = torch.cat([gramian.to(weights.device).flatten(), weights.double()]).cpu()
    return both[: -len(weights)].view(len(weights), -1), both[-len(weights) :]
