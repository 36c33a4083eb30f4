"""Checks every step, so that no NaN and no infinity reaches the optimizer."""

import math

import torch
from torch import Tensor, nn

from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.backward import StepResult

MOST_OVERFLOWS = 40  # in a row; so many halvings of the scaler's first scale, 2**16, are more than any gradient needs


class NonFinite(Exception):
    """A loss, an output or a gradient is not finite. The message says where it began.

    Attributes:
        kept: true if the step was kept for `mtlcluster replay`.
    """

    def __init__(self, message: str, kept: bool = False) -> None:
        super().__init__(message)
        self.kept = kept


class Guard:
    """Checks the values of every step. The CPU waits for the device once a step.

    Attributes:
        overflows: the number of steps in a row, up to now, whose gradients are not finite.
    """

    def __init__(self, model: nn.Module, expects_overflows: bool, ranks: Ranks = ALONE) -> None:
        """Chooses the parameters whose gradients are checked.

        Args:
            model: the model.
            expects_overflows: true for a run in fp16. Its gradient scaler skips a step whose gradient overflowed, and
                halves its scale. So the guard refuses such steps only if there are too many in a row.
            ranks: the processes that train together.
        """
        self.ranks = ranks
        self.watched = watched_parameters(model)
        self.most_overflows = MOST_OVERFLOWS if expects_overflows else 0
        self.overflows = 0

    def is_sound(self, found: StepResult, norm: Tensor | None) -> bool:
        """True if inputs, outputs, losses and gradients are finite on all ranks.

        Args:
            found: the result of the step.
            norm: the norm of all gradients, if it was computed.
        """
        if norm is None:
            norm = self._sum_of_watched()
        *values, gradient = torch.cat([found.losses, *found.extremes, found.total[None], norm[None]]).tolist()
        self.overflows = 0 if math.isfinite(gradient) else self.overflows + 1
        broken = not all(map(math.isfinite, values)) or self.overflows > self.most_overflows
        return not self.ranks.total([int(broken)])[0]

    def _sum_of_watched(self) -> Tensor:
        """The sum of the watched gradients. It is not finite if one of them is not."""
        gradients = [p.grad for p in self.watched if p.grad is not None]
        vectors = [gradient.flatten() for gradient in gradients if gradient.ndim < 2]
        sums = [gradient.sum() for gradient in gradients if gradient.ndim > 1]
        return torch.stack([*sums, torch.cat(vectors).sum()] if vectors else sums).sum()


def watched_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters whose gradients are checked. To check all would cost several per cent of a small step.

    - Of torch's own modules: the vectors, such as a bias. If a module has no vectors: its matrices.
    - Of all other modules: all parameters, because they may be used in any formula.

    Why the bias is enough: let A be the input of a layer, and D the gradient of its output. The gradient of the weight
    is DᵀA, and the gradient of the bias is the sum of D. If D is not finite, both gradients are not finite. If A is not
    finite, the check of the outputs and inputs finds it.
    """
    watched = []
    for module in model.modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        vectors = [parameter for parameter in own if parameter.ndim < 2]
        watched += vectors if vectors and type(module).__module__.startswith("torch.nn.") else own
    return watched
