"""The check of every step: nothing that is not finite reaches the optimizer."""

import math

import torch
from torch import Tensor, nn

from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.backward import StepResult

MOST_OVERFLOWS = 40  # halvings from the scaler's first scale, 2**16, to less than any gradient needs


class NonFinite(Exception):
    """A loss, an output or a gradient that is no number any more; the message says where it began.

    kept: whether the step was kept, for `mtlcluster replay`.
    """

    def __init__(self, message: str, kept: bool = False) -> None:
        super().__init__(message)
        self.kept = kept


class Guard:
    """Waits for the device once a step.

    expects_overflows: with fp16 the scaler leaves out a step whose gradient overflowed, and halves its scale; only too
    many in a row are refused.
    """

    def __init__(self, model: nn.Module, expects_overflows: bool, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.watched = watched_parameters(model)
        self.most_overflows = MOST_OVERFLOWS if expects_overflows else 0
        self.overflows = 0  # in a row

    def is_sound(self, found: StepResult, norm: Tensor | None) -> bool:
        """Whether inputs, losses, outputs and gradients are finite. norm: of all gradients, where it was computed."""
        if norm is None:
            norm = self._sum_of_watched()
        *values, gradient = torch.cat([found.losses, *found.extremes, found.total[None], norm[None]]).tolist()
        self.overflows = 0 if math.isfinite(gradient) else self.overflows + 1
        broken = not all(map(math.isfinite, values)) or self.overflows > self.most_overflows
        return not self.ranks.total([int(broken)])[0]

    def _sum_of_watched(self) -> Tensor:
        """Of the watched gradients: not finite where one of them is not."""
        gradients = [p.grad for p in self.watched if p.grad is not None]
        vectors = [gradient.flatten() for gradient in gradients if gradient.ndim < 2]
        sums = [gradient.sum() for gradient in gradients if gradient.ndim > 1]
        return torch.stack([*sums, torch.cat(vectors).sum()] if vectors else sums).sum()


def watched_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Of torch's own modules the vectors among the parameters, and where there are none the matrices; of all others,
    whose parameters may stand in any formula, both. A pass over all gradients costs several per cent of a small step. A
    layer's weight gradient is DᵀA where its bias's is the sum of D, the gradient of its output: what makes the one
    non-finite makes the other so, too (an A that the layers before have made infinite shows in the outputs, one that
    came in in the inputs).
    """
    watched = []
    for module in model.modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        vectors = [parameter for parameter in own if parameter.ndim < 2]
        watched += vectors if vectors and type(module).__module__.startswith("torch.nn.") else own
    return watched
