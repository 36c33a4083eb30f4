import numpy as np
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient
from mtlcluster.methods.solvers import equal_cosines, over_nonzero


class IMTLG(Gradient):
    """The affine combination of the gradients that has the same projection on each: a ∝ G⁺√diag G, Σa = 1.

    The pseudo-inverse G⁺ is taken over the unit gradients, so that no task's scale decides what counts as rank. A task
    whose gradient is zero is left out. The direction scales with the gradients.

    Weights may be negative. If their sum before scaling is negative, the direction points away from all tasks, as in
    the paper. If that sum is near 0, Σ|a| is held at 1000 instead. If the gradients have no common direction, such as
    opposite ones, a ∝ 1/‖g_i‖, which is the limit and gives a direction near zero.
    """

    paper = "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021, IMTL-G"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return over_nonzero(gramian, _impartial)


def _impartial(cosines: np.ndarray, norms: np.ndarray) -> np.ndarray:
    of_units = equal_cosines(cosines)
    weights = (of_units if of_units.any() else np.ones(len(norms))) / norms
    total = weights.sum()
    scaled: np.ndarray = weights / np.copysign(max(abs(total), np.abs(weights).sum() / 1000), total)
    return scaled
