from torch import Tensor

from mtlcluster.methods.base import Active, Gradient
from mtlcluster.methods.solvers import gradients_like, nearest_to_zero


class MGDA(Gradient):
    """The shortest convex combination of the gradients: the point of the simplex where aᵀGa is least.

    It conflicts with no task. It is zero exactly where the point is Pareto-stationary; so also where a task's gradient
    is zero. The task with the smallest gradient leads it. It scales with the gradients.
    """

    paper = "Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, equation 3"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return gramian.new_tensor(nearest_to_zero(gradients_like(gramian)))
