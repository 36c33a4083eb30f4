import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


class PCGrad(Gradient):
    """Removes from each gradient the part that conflicts with another task's gradient.

    Each g_i is compared with the other tasks' original g_j, in a new random order at each step. If g_i·g_j < 0, then
    g_i ← g_i − (g_i·g_j / ‖g_j‖²) g_j. The direction is the sum of the results.
    """

    paper = "Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020, algorithm 1"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        inner = gramian.tolist()
        tasks = range(len(inner))
        total = [0.0] * len(inner)
        for i in tasks:
            coefficients = [float(i == j) for j in tasks]  # of g_i, as projected so far, over the original g_j
            for j in torch.randperm(len(inner), generator=self.context.generator).tolist():
                overlap = sum(coefficients[k] * inner[k][j] for k in tasks)
                if j != i and overlap < 0 and inner[j][j] > 0:
                    coefficients[j] -= overlap / inner[j][j]
            total = [t + c for t, c in zip(total, coefficients, strict=True)]
        return torch.tensor(total, dtype=gramian.dtype)
