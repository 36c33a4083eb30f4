"""The check of every step: no value that is not finite reaches the optimizer."""

import math

import torch
from torch import Tensor, nn

from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.backward import StepResult

MOST_OVERFLOWS = 40  # halvings from the scaler's first scale, 2**16, to less than any gradient needs


class NonFinite(Exception):
    """A loss, an output or a gradient is not finite. The message says where it began.

    Attributes:
        kept: whether the step was kept for `mtlcluster replay`.
    """

    def __init__(self, message: str, kept: bool = False) -> None:
        super().__init__(message)
        self.kept = kept


class Guard:
    """Checks the values of every step. Waits for the device once a step.

    Attributes:
        overflows: how many steps in a row had gradients that are not finite.
    """

    def __init__(self, model: nn.Module, expects_overflows: bool, ranks: Ranks = ALONE) -> None:
        """Chooses the parameters whose gradients are looked at.

        Args:
            model: the model.
            expects_overflows: whether the run is in fp16. The gradient scaler then skips a step whose gradient
                overflowed and halves its scale; the guard refuses only too many of them in a row.
            ranks: the processes that train together.
        """
        self.ranks = ranks
        self.watched = watched_parameters(model)
        self.most_overflows = MOST_OVERFLOWS if expects_overflows else 0
        self.overflows = 0  # in a row

    def is_sound(self, found: StepResult, norm: Tensor | None) -> bool:
        """Whether inputs, outputs, losses and gradients are finite, on all ranks.

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
    """The parameters whose gradients are looked at: not all, for that costs several per cent of a small step.

    For torch's own modules these are the vectors, or the matrices if there are no vectors. D is the gradient of a
    layer's output and A its input: the gradient of the weight is DᵀA, that of the bias the sum of D. If D makes the one
    non-finite, it makes the other so, too. (An infinite A shows in the outputs of the layers before, or in the inputs.)
    For all other modules these are all parameters, since they may stand in any formula.
    """
    watched = []
    for module in model.modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        vectors = [parameter for parameter in own if parameter.ndim < 2]
        watched += vectors if vectors and type(module).__module__.startswith("torch.nn.") else own
    return watched
