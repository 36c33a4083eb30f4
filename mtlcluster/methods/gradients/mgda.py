from torch import Tensor

from mtlcluster.methods.base import Active, Gradient
from mtlcluster.methods.solvers import gradients_like, nearest_to_zero


class MGDA(Gradient):
    """The shortest convex combination of the gradients: argmin over the simplex of aᵀGa.

    Where it is not zero, it conflicts with no task; it is zero exactly where the point is Pareto-stationary, so also
    where some task's gradient is zero. It is led by the task with the smallest gradient, and scales as the gradients.
    """

    paper = "Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, equation 3"

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        return gramian.new_tensor(nearest_to_zero(gradients_like(gramian)))
