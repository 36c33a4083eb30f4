import numpy as np
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Positive
from mtlcluster.methods.solvers import fair_weights, over_nonzero


class NashMTL(Gradient):
    """The bargain of the tasks on a direction: Ga = 1/a. No task's scale changes it.

    Every task gains in proportion to 1/a_i > 0: no conflict. Unclipped, the direction has the norm √A for A tasks,
    however long the gradients are. It is clipped as in the paper's code, and so has the norm `max_norm` unless the
    gradients nearly cancel.

    A task whose gradient is zero is left out. At a Pareto-stationary point there is no solution; the direction is then
    finite, and near zero where the gradients cancel as unit vectors.

    Args:
        max_norm: the largest norm of the direction.
    """

    paper = "Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, claim 3.1"

    def __init__(self, context: Context, *, max_norm: Positive = 1.0) -> None:
        super().__init__(context)
        self.max_norm = max_norm

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return over_nonzero(gramian, self._bargain)

    def _bargain(self, cosines: np.ndarray, norms: np.ndarray) -> np.ndarray:
        of_units = fair_weights(cosines, np.ones_like(norms), power=1.0)
        length = np.sqrt(max(of_units @ cosines @ of_units, 0.0))
        clipped: np.ndarray = of_units / max(1.0, length / self.max_norm) / norms
        return clipped
