import numpy as np
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient
from mtlcluster.methods.solvers import nonnegative, over_nonzero, square_root


class UPGrad(Gradient):
    """The sum of the gradients, each moved as little as it takes to conflict with no task.

    Each gradient is projected onto the dual cone {d: g_j·d ≥ 0 for all j}. The paper's mean of the projections is a sum
    here, so one task alone, or tasks without conflict, get the plain sum.

    No conflict. The direction scales with the gradients, each task's share with its own scale. Opposite gradients give
    zero.
    """

    paper = "Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232, 2024"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return over_nonzero(gramian, _sum_of_projections)


def _sum_of_projections(cosines: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """A unit gradient u_i's projection is the shortest u_i + Σ x_j u_j with x ≥ 0."""
    units = square_root(cosines)
    added = [norm * nonnegative(units, -unit) for norm, unit in zip(norms, units.T, strict=True)]
    weights: np.ndarray = 1 + np.sum(added, axis=0) / norms
    return weights
