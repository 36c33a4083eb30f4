from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Fraction, NotNegative
from mtlcluster.methods.smoothed import Smoothed


class MoCo(Gradient):
    """A slow MGDA on smoothed gradients: the noise of a batch does not bias its direction.

    y_i ← y_i − β(y_i − g_i), from zero; λ ← softmax(λ − γ(yyᵀ + rho·I)λ), from 1/T; d = Σ λ_i y_i. β and γ are `beta`
    and `gamma` over k^decay, where k is the number of the task's steps so far (for γ the largest of the active tasks).

    The softmax, in place of the paper's projection onto the simplex, and the decay are those of the authors' code. The
    gradients are plain as in the paper; the code scales each to the length of its loss. So `gamma` should suit their
    scale. The λ of the active tasks keep their sum and are taken relative to it; y and λ of the others stay. The method
    keeps T gradients. One task alone gets y.

    Args:
        beta: the rate at which y follows the gradients.
        gamma: the rate at which λ moves.
        rho: the weight of the regularization of λ.
        decay: the exponent by which both rates fall; 0 keeps them.
    """

    paper = (
        "Fernando et al., Mitigating Gradient Bias in Multi-objective Learning: "
        "A Provably Convergent Approach, ICLR 2023, algorithm 1"
    )
    needs: ClassVar[Literal["jacobian"]] = "jacobian"
    shares: Tensor
    steps: Tensor

    def __init__(
        self,
        context: Context,
        *,
        beta: Fraction = 0.5,
        gamma: NotNegative = 0.1,
        rho: NotNegative = 0.0,
        decay: NotNegative = 0.5,
    ) -> None:
        super().__init__(context)
        self.beta, self.gamma, self.rho, self.decay = beta, gamma, rho, decay
        tasks = len(context.tasks)
        self.smoothed = Smoothed(tasks)
        self.register_buffer("shares", torch.full((tasks,), 1 / tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.float64))

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        self.steps[active] += 1
        slower = self.steps[active] ** self.decay
        y = self.smoothed(jacobian, active, (self.beta / slower).to(jacobian)[:, None])
        total = self.shares[active].sum()
        shares = self.shares[active] / total
        gradient = (y @ y.T).double() @ shares + self.rho * shares
        shares = torch.softmax(shares - self.gamma / slower.max() * gradient, 0)
        self.shares[active] = total * shares
        direction: Tensor = shares.to(y) @ y
        return direction
