import numpy as np
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Positive
from mtlcluster.methods.solvers import fair_weights, over_nonzero


class FairGrad(Gradient):
    """The α-fair division of the progress among the tasks: Ga = a^(−1/α).

    Every task gains a_i^(−1/α) > 0: no conflict. α = 1 is Nash-MTL without its clipping.

    Gradients s times as long give a direction s^((1−α)/(1+α)) times as long: for α > 1 steps grow as gradients vanish,
    so clip the gradient's norm. A task whose gradient is zero is left out. At a Pareto-stationary point there is no
    solution; the direction is then finite, and near zero where the gradients cancel at the weights that fairness asks
    for.

    Args:
        alpha: α; with a larger one, the smallest gain counts more.
    """

    paper = "Ban and Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024"

    def __init__(self, context: Context, *, alpha: Positive = 2.0) -> None:
        super().__init__(context)
        self.alpha = alpha

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return over_nonzero(gramian, self._divide)

    def _divide(self, cosines: np.ndarray, norms: np.ndarray) -> np.ndarray:
        divided: np.ndarray = fair_weights(cosines, norms ** (1 / self.alpha - 1), 1 / self.alpha) / norms
        return divided
