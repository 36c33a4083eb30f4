"""The constant output of a task that has the least loss on the training labels.

The labels are those of the batches of the first epoch, of all ranks. They are taken from there because a dataset gives
targets together with inputs: a pass of its own over the training data would load every input once more. So they are all
training labels, except for a last batch that is dropped, or if `steps` ends the run before the first epoch does.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlcluster.losses import BuiltInLoss
from mtlcluster.problem import Task

MOST = 1_000_000  # numbers: so many of the labels of one task are kept for L-BFGS
LONGEST = 200  # iterations of L-BFGS
CLOSED_FORM, ITERATED = "closed form", "L-BFGS"


class NoConstant(ValueError):
    """No constant output was found. The message says why, as a part of a sentence."""


class TrainingLabels(ABC):
    """What is kept of one task's training labels until the constant output is fitted.

    Attributes:
        how: How the constant output is found.
    """

    how: str

    @abstractmethod
    def add(self, labels: Tensor) -> None:
        """Adds the labels [P, …] of a batch, on the CPU."""

    @abstractmethod
    def state(self) -> Any:
        """What is kept, for a checkpoint."""

    @abstractmethod
    def add_state(self, state: Any) -> None:
        """Adds what another object of this class has kept."""

    @abstractmethod
    def best_output(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """The constant output with the least loss.

        Args:
            shape: The shape of the head's output for one row.
            device: Where the loss is computed.

        Returns:
            [*shape], or another shape that the loss takes as well; float32, on the CPU.

        Raises:
            NoConstant: There is none.
        """


class Summed(TrainingLabels):
    """The labels of a task with a built-in loss: sums are enough."""

    how = CLOSED_FORM

    def __init__(self, loss: BuiltInLoss) -> None:
        self.loss = loss
        self.sums: Tensor | None = None

    def add(self, labels: Tensor) -> None:
        if len(labels):
            self.add_state(self.loss.sums(labels))

    def state(self) -> Tensor | None:
        return self.sums

    def add_state(self, state: Tensor | None) -> None:
        if state is not None:
            self.sums = state if self.sums is None else self.sums + state

    def best_output(self, shape: Sequence[int], device: torch.device) -> Tensor:
        if self.sums is None:
            raise NoConstant("no training label was seen")
        return self.loss.best_output(self.sums).float()


class Kept(TrainingLabels):
    """The labels of a task with a loss of the user's own.

    All are kept up to MOST numbers in an epoch. Of more, each batch keeps the same number of rows, evenly spaced. The
    order of the samples is random, so these are a fair sample.
    """

    how = ITERATED

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], batches: int) -> None:
        """
        Args:
            loss: The task's loss.
            batches: The number of an epoch's batches, those of all ranks counted one by one.
        """
        self.loss, self.of_a_batch = loss, max(1, MOST // batches)
        self.labels: list[Tensor] = []

    def add(self, labels: Tensor) -> None:
        if not len(labels):
            return
        rows = max(1, self.of_a_batch // max(1, labels[0].numel()))
        if len(labels) > rows:
            labels = labels[torch.linspace(0, len(labels) - 1, rows).long()]
        self.labels.append(labels.clone())  # it may be a view of a whole batch

    def state(self) -> list[Tensor]:
        return list(self.labels)

    def add_state(self, state: list[Tensor]) -> None:
        self.labels += state

    def best_output(self, shape: Sequence[int], device: torch.device) -> Tensor:
        if not self.labels:
            raise NoConstant("no training label was seen")
        labels = torch.cat(self.labels).to(device)
        try:
            return self._minimized(labels.double() if labels.is_floating_point() else labels, shape, torch.float64)
        except Exception:  # of the user's code: a tensor in it may be float32
            return self._minimized(labels, shape, torch.float32)

    def _minimized(self, labels: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The result of L-BFGS in a precision. Raises NoConstant."""
        start = torch.zeros(tuple(shape), device=labels.device, dtype=dtype)
        try:
            return minimize(lambda output: self.loss(_repeated(output, len(labels)), labels), start).float().cpu()
        except NoConstant:
            raise
        except Exception as error:  # of the user's code
            raise NoConstant(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}") from error


def minimize(function: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Minimizes a function of one tensor by L-BFGS with a strong Wolfe line search.

    Source: Nocedal & Wright, Numerical Optimization, 2nd edition, 2006, algorithms 7.5 and 3.5.

    Args:
        function: Gives a scalar with a graph.
        start: The first point.

    Returns:
        The point with the least value of all that were tried.

    Raises:
        NoConstant: The first value is not finite.
    """
    point = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [point], max_iter=LONGEST, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )
    least, best = math.inf, None

    def step() -> Tensor:
        nonlocal least, best
        value = function(point)
        if best is None and not math.isfinite(value.detach()):
            raise NoConstant(f"its loss is {float(value.detach())} at the first point of L-BFGS")
        [point.grad] = torch.autograd.grad(value, [point])
        if -math.inf < float(value.detach()) < least:
            least, best = float(value.detach()), point.detach().clone()
        return value.detach()

    with torch.enable_grad():
        optimizer.step(step)
    assert best is not None
    return best


def _repeated(output: Tensor, rows: int) -> Tensor:
    """The output for each row: a copy, since a loss may change its arguments in place."""
    return output.expand(rows, *output.shape).clone()


def constant_loss(task: Task, output: Tensor, labels: Tensor) -> float:
    """The sum of the losses of a constant output over P rows.

    Args:
        task: The task.
        output: The constant output.
        labels: [P, …], P ≥ 1, on the device of `output`.

    Returns:
        The sum. NaN if the loss can't be computed.
    """
    try:
        return float(task.loss(_repeated(output, len(labels)), labels)) * len(labels)
    except Exception:  # of the user's code
        return float("nan")


def training_labels(task: Task, batches: int) -> TrainingLabels:
    """Keeps the labels of a task.

    Args:
        task: The task.
        batches: See `Kept`.
    """
    if isinstance(task.loss, BuiltInLoss):
        return Summed(task.loss)
    return Kept(task.loss, batches)
