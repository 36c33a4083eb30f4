import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


class AlignedMTL(Gradient):
    """The sum of the gradients, once their principal components are scaled to the same, smallest size.

    With the eigenvalues and eigenvectors G = VΛVᵀ of the Gramian, a = √λ_min · V Λ^(−½) Vᵀ 𝟙. Only eigenvalues above
    A·ε·λ_max count, ε that of float32: smaller ones are rounding. λ_min is the smallest that counts.

    The paper's mean is a sum here, so one task alone is plain training. The direction scales with the gradients.
    Orthogonal gradients all count alike. In general a conflict is made smaller, but not excluded. If all gradients are
    zero, so are the weights.
    """

    paper = "Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023, algorithm 1"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        values, vectors = torch.linalg.eigh(gramian)
        kept = values > len(values) * torch.finfo(torch.float32).eps * values[-1]
        if not bool(kept.any()):
            return gramian.new_zeros(len(gramian))
        values, vectors = values[kept], vectors[:, kept]
        weights: Tensor = vectors @ ((values[0] / values).sqrt() * vectors.sum(0))
        return weights
