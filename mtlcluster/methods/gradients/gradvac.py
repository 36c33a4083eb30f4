import math

import numpy as np
import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Fraction

ALMOST_PARALLEL = 1 - 1e-6  # cosines are kept within ±: at ±1 the law of sines divides by zero


class GradVac(Gradient):
    """Adds a part of another task's gradient to each gradient, so that the two are as similar as on average.

    Each g_i is compared with the other tasks' original g_j, in a new random order at each step. If their cosine is
    below ρ_ij, the multiple of g_j is added to g_i that makes the cosine ρ_ij. Then ρ_ij, a running mean, moves toward
    the cosine before the addition. Each ordered pair of active tasks has a ρ, which begins at 0. The direction is the
    sum of the results.

    The direction scales with the gradients. A task whose gradient is zero is left out and keeps its ρ.

    Args:
        beta: the weight of the newest cosine in the running mean ρ.
    """

    paper = "Wang et al., Gradient Vaccine, ICLR 2021, algorithm 1"
    targets: Tensor

    def __init__(self, context: Context, *, beta: Fraction = 0.01) -> None:
        super().__init__(context)
        self.beta = beta
        self.register_buffer("targets", torch.zeros(len(context.tasks), len(context.tasks), dtype=torch.float64))

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        self.targets = self.targets.cpu()
        tasks = torch.arange(len(self.targets))[active.cpu() if isinstance(active, Tensor) else active]
        inner, targets = gramian.numpy(), self.targets[tasks][:, tasks].numpy()
        norms = np.sqrt(np.maximum(inner.diagonal(), 0))
        total = np.zeros(len(inner))
        for i in range(len(inner)):
            coefficients = np.eye(len(inner))[i]  # of g_i, as changed so far, over the original g_j
            for j in torch.randperm(len(inner), generator=self.context.generator).tolist():
                products = inner @ coefficients
                length = math.sqrt(max(coefficients @ products, 0.0))
                if j == i or norms[j] == 0 or length == 0:
                    continue
                cosine = max(-ALMOST_PARALLEL, min(ALMOST_PARALLEL, products[j] / length / norms[j]))
                target = targets[i, j]
                if cosine < target:
                    sine, target_sine = math.sqrt(1 - cosine**2), math.sqrt(1 - target**2)
                    coefficients[j] += length * (target * sine - cosine * target_sine) / (norms[j] * target_sine)
                targets[i, j] += self.beta * (cosine - target)
            total += coefficients
        self.targets[tasks[:, None], tasks] = torch.from_numpy(targets)
        return gramian.new_tensor(total)
