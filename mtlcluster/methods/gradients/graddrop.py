from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Gradient
from mtlcluster.methods.options import Fraction

COLUMNS = 2**16  # at a time, so that there are no further copies of the Jacobian


class GradDrop(Gradient):
    """Keeps in each coordinate only the gradients of one sign. The sign is drawn; the gradients' sum favours one.

    The positive ones are kept with probability P = ½(1 + Σ g_i / Σ|g_i|), else the negative ones. Where all gradients
    are zero, the direction is 0.

    The signs are those of the parameters' gradients, and all tasks have the same leak. One task alone is plain
    training. The direction scales with the gradients, and it may conflict with a task.

    Args:
        leak: how much the other gradients count: 0 drops them, 1 is the plain sum.
    """

    paper = "Chen et al., Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout, NeurIPS 2020"
    needs: ClassVar[Literal["jacobian"]] = "jacobian"

    def __init__(self, context: Context, *, leak: Fraction = 0.0) -> None:
        super().__init__(context)
        self.leak = leak

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        # Drawn where the gradients are, so that nothing waits for the device; the same on every rank.
        seed = int(torch.randint(2**62, (), generator=self.context.generator))
        generator = torch.Generator(jacobian.device).manual_seed(seed)
        for columns in jacobian.split(COLUMNS, dim=1):
            columns[0] = self._kept(columns, generator)
        return jacobian[0]

    def _kept(self, columns: Tensor, generator: torch.Generator) -> Tensor:
        positive, negative = columns.clamp_min(0).sum(0), columns.clamp_max(0).sum(0)
        draws = torch.rand(len(positive), generator=generator, dtype=columns.dtype, device=columns.device)
        is_positive = draws * (positive - negative) < positive  # draws < P
        kept, dropped = torch.where(is_positive, positive, negative), torch.where(is_positive, negative, positive)
        return kept.add_(dropped, alpha=self.leak)
