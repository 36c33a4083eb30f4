import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


class PCGrad(Gradient):
    """Takes out of each gradient its part against another task's gradient, where the two conflict.

    Each g_i is compared with the other tasks' original g_j, in fresh random order. If their inner product is negative,
    the projection of g_i on g_j is taken out. The results are summed.
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
