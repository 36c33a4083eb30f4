from typing import Any, ClassVar

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.options import NotNegative, Positive
from mtlcluster.methods.own_adam import OwnAdam


class GradNorm(Weighting):
    """Learns weights by which all tasks train at similar rates.

    Minimises Σ |w_i n_i − Ḡ r_i^alpha| over w with an Adam of its own. n_i = ‖∇L_i‖ at the weight of the last shared
    layer, Ḡ is the mean of the w_i n_i, and r_i = (L_i / L_i(0)) over its mean.
    The target Ḡ r_i^alpha is held constant, and ‖∇(w_i L_i)‖ = w_i n_i, so the gradient is n_i · sign(w_i n_i − Ḡ
    r_i^alpha).

    After each step the active weights are scaled so that Σ w = T over all tasks; they stay above 1e-6. L_i(0) is the
    first loss that was seen.

    Args:
        alpha: how strongly tasks that train slowly are favoured; 0 makes all gradients equally long.
        lr: the learning rate of its Adam.
        layer: the last shared layer: a module's name, or used_last. Null: the layer registered last. The model's
            `last_shared_layer` comes before used_last and null.
    """

    paper = "Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing, ICML 2018, algorithm 1"
    needs_gradient_norms: ClassVar[bool] = True
    weights: Tensor
    initial: Tensor

    def __init__(self, context: Context, *, alpha: NotNegative = 1.5, lr: Positive = 0.025) -> None:
        super().__init__(context)
        self.alpha = alpha
        self.register_buffer("weights", torch.ones(len(context.tasks)))
        self.register_buffer("initial", torch.full((len(context.tasks),), float("nan")))
        self.adam = OwnAdam(lr)

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        return (self.weights[active] * losses).sum()

    def observe_gradients(self, losses: Tensor, norms: Tensor, active: Active) -> None:
        if self.adam.is_new and not bool(norms.any()):
            raise ValueError("gradnorm: the last shared layer gets no gradient from any task")
        initial = self.initial[active]
        initial = torch.where(initial.isnan(), losses, initial)
        self.initial[active] = initial
        own = self.weights[active]
        total = len(self.weights) - self.weights.sum() + own.sum()  # what the active weights are to sum to
        rate = losses / initial.clamp_min(1e-12)
        lengths = own * norms
        target = lengths.mean() * (rate / rate.mean().clamp_min(1e-12)) ** self.alpha
        self.adam.step(self.weights, norms * torch.sign(lengths - target), active)
        learned = self.weights[active].clamp_min(1e-6)
        self.weights[active] = learned * (total / learned.sum())

    def learned_weights(self) -> Tensor:
        return self.weights

    def get_extra_state(self) -> dict[str, Any]:
        return self.adam.state_dict(self.weights)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(self.weights, state)
