from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Fraction
from mtlcluster.methods.smoothed import Smoothed


class DBMTL(Gradient):
    """The sum of all tasks' smoothed gradients, each scaled to the length of the longest.

    y_i = beta·y_i + (1 − beta)·g_i, from zero; d = max‖y‖ · Σ y_i / ‖y_i‖ over the active tasks. Since beta is
    constant, the first 1/(1 − beta) steps are short.

    The paper takes the gradients of log L_i. That is the weighting `scale_invariant`, which is taken if none is given.
    A task whose y is zero is left out; a task that is not active keeps its y. The method keeps T gradients; none for
    beta = 0, where one task alone is plain training. The direction scales with the gradients so far. It can conflict
    with a task.

    Args:
        beta: how much of the old y is kept at a step; less than 1.
    """

    paper = "Lin et al., Dual-Balancing for Multi-Task Learning, arXiv 2308.12029, 2023"
    needs: ClassVar[Literal["jacobian"]] = "jacobian"
    usual_weighting: ClassVar[str] = "scale_invariant"

    def __init__(self, context: Context, *, beta: Fraction = 0.9) -> None:
        super().__init__(context)
        if beta == 1:
            raise ValueError("beta = 1 never looks at a gradient: it should be less than 1")
        self.beta = beta
        self.smoothed = Smoothed(len(context.tasks)) if beta else None

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        if self.smoothed is not None:
            jacobian = self.smoothed(jacobian, active, jacobian.new_tensor(1 - self.beta))
        norms = torch.linalg.vector_norm(jacobian, dim=1)
        return torch.where(norms > 0, norms.max() / norms, 0) @ jacobian
