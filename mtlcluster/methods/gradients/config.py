import numpy as np
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient
from mtlcluster.methods.solvers import equal_cosines, over_nonzero


class ConFIG(Gradient):
    """The direction with the same cosine to every gradient.

    u = Σ x_i g_i / ‖g_i‖ with x = C⁺𝟙, where C are the cosines and C⁺ is the pseudo-inverse; u is then normalised. The
    direction is (Σ g_i·u) u: it is as long as the gradients' projections on it together.

    A task whose gradient is zero is left out. The direction is zero where the gradients have no common direction, such
    as opposite ones. If they are linearly dependent, the cosines are equal in the sense of least squares. The direction
    scales with the gradients.
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
