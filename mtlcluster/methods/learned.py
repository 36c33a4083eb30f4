"""Parameters that a weighting learns, one for each task."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from mtlcluster.methods.base import Active


class OfEachTask(nn.ParameterList):
    """A number for each task, 0 at first.

    Each is a parameter of its own: an optimizer leaves parameters without a gradient alone, momentum included. So the
    number of a task that is not active stays.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(torch.zeros(()) for _ in range(tasks))
        self.positions = WeakIdKeyDictionary()

    def at(self, active: Active) -> Tensor:
        """The numbers [A] of the active tasks."""
        return torch.stack([self[i] for i in self._chosen(active)])

    def _chosen(self, active: Active) -> Sequence[int]:
        if isinstance(active, slice):
            return range(len(self))[active]
        if active not in self.positions:  # it waits for the device: only once for each index tensor
            self.positions[active] = active.tolist()
        chosen: list[int] = self.positions[active]
        return chosen
