import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient


class AlignedMTL(Gradient):
    """The sum of the gradients once their principal components are scaled to the same, smallest size.

    G = VΛVᵀ, a = √λ_min·VΛ^(−½)Vᵀ𝟙, over the eigenvalues above A·ε·λ_max, ε that of float32: what is smaller is rank
    that rounding made, and λ_min the smallest of the others. The sum, not the mean; one task alone is plain training.
    It scales as the gradients. Orthogonal gradients all count alike; in general a conflict is made smaller, not
    excluded. Gradients that are all zero get zero weights.
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
