import numpy as np
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient
from mtlcluster.methods.solvers import equal_cosines, over_nonzero


class ConFIG(Gradient):
    """The direction with the same cosine to every gradient, as long as the gradients' projections on it together.

    u = Σ x_i g_i/‖g_i‖ with x = C⁺𝟙, the pseudo-inverse of the cosines, normalised; d = (Σ g_i·u)u. A task whose
    gradient is zero is left out. Zero where the gradients have no common direction (opposite ones); where they are
    linearly dependent the cosines are equal in the sense of least squares. It scales as the gradients.
    """

    paper = "Liu et al., ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, ICLR 2025"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return over_nonzero(gramian, _conflict_free)


def _conflict_free(cosines: np.ndarray, norms: np.ndarray) -> np.ndarray:
    of_units = equal_cosines(cosines)
    if not of_units.any():
        return of_units
    overlaps = cosines @ of_units
    result: np.ndarray = (norms @ overlaps) / (of_units @ overlaps) * of_units / norms
    return result
