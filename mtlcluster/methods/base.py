"""The interface of the three slots of a method: schedule, weighting and gradient.

T is the number of the run's tasks, A ≤ T the number of tasks that are active at a step. The state of a method is its
buffers and parameters, so that a checkpoint holds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mtlcluster.errors import nearest
from mtlcluster.methods.options import USED_LAST, At, Layer
from mtlcluster.problem import Task

Active = slice | Tensor
"""Index that selects the values [A] of the active tasks from a per-task tensor [T]: a slice if all tasks are active,
else an index tensor on the device."""


@dataclass(frozen=True)
class Context:
    """The run, as its method sees it.

    Args:
        tasks: the T tasks of the run.
        generator: the random generator that belongs to the methods alone. Draw from no other: it is in the checkpoint,
            and it is the same on all ranks.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of an epoch.
    """

    tasks: Sequence[Task]
    generator: torch.Generator
    total_steps: int
    steps_per_epoch: int

    def index(self, name: str) -> int:
        """The position of a task.

        Args:
            name: the task's name.

        Returns:
            Its position in `tasks`.

        Raises:
            ValueError: there is no such task; the message says the nearest name.
        """
        names = [task.name for task in self.tasks]
        if name not in names:
            raise ValueError(f"there is no task '{name}'{nearest(name, names)}")
        return names.index(name)


class Slot(nn.Module):
    """Base of all methods. The keyword-only parameters of a method's `__init__` are its options.

    Args:
        context: the run, as the method sees it.

    Attributes:
        context: the same.
        paper: what the method implements: authors, title, where, and the equation or algorithm.
    """

    paper: ClassVar[str] = ""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context


class Schedule(Slot):
    """Decides which tasks train at a step, and on which samples. Subclass it and define `active`.

    Args:
        context: the run, as the method sees it.

    Example:
        >>> class EveryOther(Schedule):
        ...     def active(self, step: int) -> Sequence[int]:
        ...         return range(step % 2, len(self.context.tasks), 2)
    """

    def active(self, step: int) -> Sequence[int]:
        """Decides which tasks train at a step.

        Args:
            step: the optimizer step, from 0.

        Returns:
            The positions of the tasks, ascending; may be empty.
        """
        raise NotImplementedError

    def trained(self) -> Sequence[int]:
        """The tasks that train at some step. The others are not validated, and do not count in means.

        Returns:
            The positions of the tasks, ascending; all, if not overridden.
        """
        return range(len(self.context.tasks))

    def shares(self, step: int) -> Tensor | None:
        """Decides which share of a batch is drawn for each task. A drawn sample counts for its task and for no other.

        Args:
            step: the optimizer step, from 0.

        Returns:
            Shares [T], float64, on the CPU, which sum to 1. None: every sample counts for every task.
        """
        return None

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        """Called after each step. It must not wait for the device.

        Args:
            losses: [A], the unweighted losses of the tasks that trained, on the device.
            active: index of these tasks.
        """

    def observe_validation(self, values: Mapping[str, float]) -> None:
        """Called after each validation.

        Args:
            values: by `<task>/loss` and `<task>/<metric>`; NaN where the labels allow none.
        """


class Weighting(Slot):
    """Decides how much each loss counts, by a scalar function F of the losses. Subclass it and define `forward`.

    The weight of a task is ∂F/∂L_i, held constant. Parameters of the module are trained by the run's optimizer, without
    weight decay.

    Args:
        context: the run, as the method sees it.

    Attributes:
        linear: true if F is linear in the losses, so that the weights are known before them. If not, `accumulate` takes
            another forward.
        needs_gradient_norms: true if `observe_gradients` is called. It takes a backward from each head to the last
            shared layer.
        needs_losses_after: true if `observe_losses_after` is called. It takes another forward.
        layer: option of every weighting with `needs_gradient_norms`: the last shared layer. "used_last" is the model's
            `last_shared_layer`, else the shared layer that the first forward calls last; None: else the one that is
            registered last. Or a module's name.

    Example:
        >>> class Root(Weighting):
        ...     linear = False
        ...
        ...     def forward(self, losses: Tensor, active: Active) -> Tensor:
        ...         return losses.sqrt().sum()
    """

    linear: ClassVar[bool] = True
    needs_gradient_norms: ClassVar[bool] = False
    needs_losses_after: ClassVar[bool] = False
    layer: Layer = USED_LAST

    def begin_step(self) -> None:
        """Called before each step. Draw random numbers here: `forward` may be called several times in a step."""

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        """Computes F.

        Args:
            losses: [A], the losses of the active tasks, on the device.
            active: index of these tasks.

        Returns:
            F, a scalar, differentiable in the losses.
        """
        raise NotImplementedError

    def observe_losses(self, losses: Tensor, active: Active) -> None:
        """Called after each step. It must not wait for the device.

        Args:
            losses: [A], the unweighted losses of the tasks that trained, on the device.
            active: index of these tasks.
        """

    def learned_weights(self) -> Tensor | None:
        """The part of the loss weights that the weighting has learned so far.

        Returns:
            [T], up to a common factor, all alike at the start. None: it learns nothing.
        """
        return None

    def observe_gradients(self, losses: Tensor, norms: Tensor, active: Active) -> None:
        """Called after each step if `needs_gradient_norms`.

        Args:
            losses: [A], the unweighted losses.
            norms: [A], the norms of their gradients with respect to the weight of the last shared layer.
            active: index of these tasks.
        """

    def observe_losses_after(self, before: Tensor, after: Tensor, active: Active) -> None:
        """Called after each step if `needs_losses_after`.

        Args:
            before: [A], the losses of the step's samples before the step.
            after: [A], their losses after it, with the same dropout.
            active: index of these tasks.
        """

    def observe_epoch(self, mean_losses: Tensor) -> None:
        """Called after each epoch.

        Args:
            mean_losses: [T], float64, on the CPU: the mean training losses; NaN for a task that did not train.
        """


class Gradient(Slot):
    """Decides which direction the shared parameters take, from the gradients g_i of the weighted losses.

    Subclass it and define `weights`, or set `needs = "jacobian"` and define `direction`.

    Args:
        context: the run, as the method sees it.

    Attributes:
        needs: "gramian" calls `weights`, "jacobian" calls `direction`; "nothing" is one plain backward of the sum.
        usual_weighting: the weighting of the published method, which is taken if none is given.
        at: option of every method that needs a Gramian: which gradients it is of. "shared" are those of all shared
            parameters, which is exact. "representation" (what enters the heads) and "last_layer" (the weight of the
            last shared layer) are approximations; they need one backward through the trunk instead of A.
        every: option of every method that needs a Gramian: new weights at each so many steps.
        layer: option of every method that needs a Gramian, for at: last_layer: which layer that is, see `Weighting`.

    Example:
        >>> class Mean(Gradient):
        ...     def weights(self, gramian: Tensor, active: Active) -> Tensor:
        ...         return torch.full((len(gramian),), 1 / len(gramian), dtype=torch.float64)
    """

    needs: ClassVar[Literal["nothing", "gramian", "jacobian"]] = "gramian"
    usual_weighting: ClassVar[str] = "equal"
    at: At = "shared"
    every: int = 1
    layer: Layer = USED_LAST

    def weights(self, gramian: Tensor, active: Active) -> Tensor:
        """Chooses the direction Σ a_i g_i.

        Args:
            gramian: [A, A], float64, on the CPU: the inner products of the g_i.
            active: index of the active tasks.

        Returns:
            The a_i, [A], float64.
        """
        raise NotImplementedError

    def direction(self, jacobian: Tensor, active: Active) -> Tensor:
        """Chooses the direction itself.

        Args:
            jacobian: [A, n], on the device: the g_i are its rows. It may be changed.
            active: index of the active tasks.

        Returns:
            The direction, [n].
        """
        raise NotImplementedError
