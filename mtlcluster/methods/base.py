"""The interface of the three slots. A method's state is its buffers and parameters, so that a checkpoint carries it.

T is the number of the run's tasks, A ≤ T that of the tasks active at a step. `active` is what indexes a per-task tensor
down to them: a slice where all are active, an index tensor else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mtlcluster.errors import nearest
from mtlcluster.methods.options import At
from mtlcluster.problem import Task

Active = slice | Tensor


@dataclass(frozen=True)
class Context:
    """What a method may know of its run: the tasks, the random generator that belongs to the methods alone, and the
    number of optimizer steps, in all and of an epoch.
    """

    tasks: Sequence[Task]
    generator: torch.Generator
    total_steps: int
    steps_per_epoch: int

    def index(self, name: str) -> int:
        """The position of the task `name`. Raises ValueError with the nearest name."""
        names = [task.name for task in self.tasks]
        if name not in names:
            raise ValueError(f"there is no task '{name}'{nearest(name, names)}")
        return names.index(name)


class Slot(nn.Module):
    """A method's options are the keyword-only parameters of its `__init__`; `paper` is what it implements."""

    paper: ClassVar[str] = ""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context


class Schedule(Slot):
    """Which tasks train at a step, and on which samples."""

    def active(self, step: int) -> Sequence[int]:
        """The positions of the tasks that train at optimizer step `step` (from 0), ascending; may be none."""
        raise NotImplementedError

    def trained(self) -> Sequence[int]:
        """The tasks that ever train: the others are neither validated nor counted."""
        return range(len(self.context.tasks))

    def shares(self, step: int) -> Tensor | None:
        """The share of a batch that is drawn for each task at `step`: [T], float64, on the CPU, sums to 1. Each sample
        then counts for the task it is drawn for and for no other. None: every sample counts for every task.
        """
        return None

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        """After each step: the unweighted losses [A] of the tasks that trained. Called at every step: it must not wait
        for the device."""

    def observe_validation(self, values: Mapping[str, float]) -> None:
        """Learns what a validation found, by `<task>/loss` and `<task>/<metric>`."""


class Weighting(Slot):
    """How much each loss counts: a scalar function F of the losses. A task's weight is ∂F/∂L_i, held constant.

    Parameters are trained by the run's optimizer, without weight decay.

    linear: whether F is linear in the losses, so that the weights are known before them (else accumulation takes one
    forward more). needs_gradient_norms, needs_losses_after: what else the loop finds out for it, at a cost.
    """

    linear: ClassVar[bool] = True
    needs_gradient_norms: ClassVar[bool] = False
    needs_losses_after: ClassVar[bool] = False

    def begin_step(self) -> None:
        """Before each step: the place for random draws. `forward` may be called several times in a step."""

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        """losses: [A]. Returns F, a scalar."""
        raise NotImplementedError

    def observe_gradients(self, losses: Tensor, norms: Tensor, active: Active) -> None:
        """With `needs_gradient_norms`, after each step: losses [A] and the norms [A] of their own, unweighted gradients
        with respect to the last shared layer."""

    def observe_losses_after(self, before: Tensor, after: Tensor, active: Active) -> None:
        """With `needs_losses_after`, after each step: the losses [A] of the step's samples before it, and after it with
        the same dropout. They take one more forward."""

    def observe_epoch(self, mean_losses: Tensor) -> None:
        """After each epoch: the mean training losses [T], float64; NaN for a task that did not train."""


class Gradient(Slot):
    """Which direction the shared parameters take, from the gradients of the weighted losses (the rows of the Jacobian).

    needs: "nothing" is one plain backward of the weighted sum; "gramian" calls `weights`, "jacobian" `direction`.
    usual_weighting: the weighting that the published method has, taken where none is given.

    at: which gradients the Gramian is of: with respect to all shared parameters (exact), to the representation that
    enters the heads, or to the last shared layer's weight (approximations that save all backwards through the trunk
    but one). every: the weights are anew at every so many steps. Both are options of every method that needs a Gramian.
    """

    needs: ClassVar[Literal["nothing", "gramian", "jacobian"]] = "gramian"
    usual_weighting: ClassVar[str] = "equal"
    at: At = "shared"
    every: int = 1

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        """gramian: [A, A], float64, on the CPU. Returns a [A]: the direction is Σ a_i g_i."""
        raise NotImplementedError

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        """jacobian: [A, n], which it may change. Returns the direction, [n]."""
        raise NotImplementedError
