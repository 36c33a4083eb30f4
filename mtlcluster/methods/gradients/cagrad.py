import numpy as np
from scipy.optimize import brentq
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import NotNegative
from mtlcluster.methods.solvers import RANK, gradients_like, nearest_to_zero


class CAGrad(Gradient):
    """The direction near the mean gradient that helps the worst task most.

    It is g₀ + c ‖g₀‖ g_w / ‖g_w‖, where g₀ is the mean gradient, g_w = Σ w_i g_i, and w is the point of the simplex
    where g_wᵀg₀ + c ‖g₀‖ ‖g_w‖ is least. It is g₀ if c = 0, or if g_w is zero (a Pareto-stationary point).

    g₀ is the mean, not the sum. The result is not divided by 1 + c², although some implementations do that. So a single
    task gets (1 + c) g. If all gradients are multiplied by a factor, so is the direction.

    Args:
        c: the radius around g₀, in multiples of its length.
    """

    paper = "Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, algorithm 1"

    def __init__(self, context: Context, *, c: NotNegative = 0.5) -> None:
        super().__init__(context)
        self.c = c

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        gradients = gradients_like(gramian)
        mean, longest = gradients.mean(1), np.linalg.norm(gradients, axis=0).max()
        average = np.full(len(gramian), 1 / len(gramian))
        radius = self.c * np.linalg.norm(mean)
        if radius <= RANK * self.c * longest:
            return gramian.new_tensor(average)

        def toward(shift: float) -> np.ndarray:
            """The w whose g_w is nearest to −shift·g₀. It is the minimum if shift = ‖g_w‖ / radius."""
            return nearest_to_zero(gradients + shift * mean[:, None])

        def excess(shift: float) -> float:
            """‖g_w‖ − radius·shift. It is zero at the minimum."""
            return float(np.linalg.norm(gradients @ toward(shift)) - radius * shift)

        greatest = longest / radius
        if excess(RANK * greatest) <= 0:
            return gramian.new_tensor(average)
        w = toward(brentq(excess, RANK * greatest, 2 * greatest, xtol=1e-15 * greatest, rtol=1e-14))
        return gramian.new_tensor(average + radius / np.linalg.norm(gradients @ w) * w)
