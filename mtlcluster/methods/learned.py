"""What a weighting learns of each task."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from mtlcluster.methods.base import Active


class OfEachTask(nn.ParameterList):
    """A number per task, from 0. One parameter each: without a gradient an optimizer leaves that of an inactive task
    alone, momentum included.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(torch.zeros(()) for _ in range(tasks))
        self.positions = WeakIdKeyDictionary()

    def at(self, active: Active) -> Tensor:
        """Those of the active tasks, [A]."""
        return torch.stack([self[i] for i in self._chosen(active)])

    def _chosen(self, active: Active) -> Sequence[int]:
        if isinstance(active, slice):
            return range(len(self))[active]
        if active not in self.positions:  # waits for the device: only once for each index tensor
            self.positions[active] = active.tolist()
        chosen: list[int] = self.positions[active]
        return chosen
