"""Numbers that a weighting learns, one for each task, by descending along its own F.

With a learning rate of their own they have an own Adam, without warm-up and schedule. Without one the run's optimizer
trains them, at the model's rate.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from mtlcluster.methods.base import Active
from mtlcluster.methods.own_adam import OwnAdam


class AtModelRate(nn.ParameterList):
    """A number for each task, 0 at first, which the run's optimizer trains.

    Each is a parameter of its own: an optimizer leaves parameters without a gradient alone, momentum included. So the
    number of a task that is not active stays.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(torch.zeros(()) for _ in range(tasks))
        self.positions = WeakIdKeyDictionary()

    def all(self) -> Tensor:
        """The numbers [T]."""
        return torch.stack(list(self))

    def at(self, active: Active) -> Tensor:
        """The numbers [A] of the active tasks."""
        return torch.stack([self[i] for i in self._chosen(active)])

    def descend(self, total: Callable[[Tensor], Tensor], active: Active) -> None:
        """Does nothing: the run's optimizer has made the step."""

    def _chosen(self, active: Active) -> Sequence[int]:
        if isinstance(active, slice):
            return range(len(self))[active]
        if active not in self.positions:  # it waits for the device: only once for each index tensor
            self.positions[active] = active.tolist()
        chosen: list[int] = self.positions[active]
        return chosen


class AtOwnRate(nn.Module):
    """A number for each task, 0 at first, trained by an own Adam, each only when its task is active."""

    values: Tensor

    def __init__(self, tasks: int, lr: float) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(tasks))
        self.adam = OwnAdam(lr)

    def all(self) -> Tensor:
        """The numbers [T]."""
        return self.values

    def at(self, active: Active) -> Tensor:
        """The numbers [A] of the active tasks."""
        return self.values[active]

    def descend(self, total: Callable[[Tensor], Tensor], active: Active) -> None:
        """Makes one step down F, the scalar that `total` computes from the numbers [A]."""
        numbers = self.values[active].clone().requires_grad_()
        [gradient] = torch.autograd.grad(total(numbers), [numbers])
        self.adam.step(self.values, gradient, active)

    def get_extra_state(self) -> dict[str, Any]:
        return self.adam.state_dict(self.values)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(self.values, state)


def of_each_task(tasks: int, lr: float | None) -> AtModelRate | AtOwnRate:
    """A number for each task, 0 at first.

    Args:
        tasks: how many.
        lr: the learning rate of their own Adam. None: the run's optimizer trains them, at the model's rate.
    """
    return AtModelRate(tasks) if lr is None else AtOwnRate(tasks, lr)
