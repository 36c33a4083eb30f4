import math

import numpy as np
import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Fraction

ALMOST_PARALLEL = 1 - 1e-6  # cosines are kept within ±: at ±1 the law of sines divides by zero


class GradVac(Gradient):
    """Adds to each gradient so much of another one that the two are as similar as usual.

    Each g_i is compared with the other tasks' original g_j, in fresh random order. If their cosine is below ρ_ij, so
    much of g_j is added that it is ρ_ij. Then ρ_ij moves toward the cosine that was found; it begins at 0, and there is
    one for each ordered pair of active tasks. The results are summed.

    The direction scales as the gradients. A task whose gradient is zero is left out and keeps its ρ.

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
