import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


class PCGrad(Gradient):
    """Where two tasks conflict, each gradient loses its part against the other.

    Each g_i, in turn over the other tasks in fresh random order: where its inner product with the original g_j is
    negative, its projection on g_j is taken out. The results are summed.
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
