"""The losses of the built-in tasks. Each knows the constant output that is best for given labels, in closed form.

A constant output is what a model gives that does not look at its inputs. The best one has the least loss on the labels.
It depends on sums over the labels alone, so labels can be added batch by batch.
"""

from abc import ABC, abstractmethod
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = tuple[float, ...]


class BuiltInLoss(ABC):
    """A loss with a closed form for the best constant output."""

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss, a scalar, of outputs [P, …] and targets [P, …]."""

    @abstractmethod
    def sums(self, targets: Tensor) -> Tensor:
        """The sums over labels that the best constant output depends on.

        Args:
            targets: [P, …], on the CPU; all are labels, P may be 0.

        Returns:
            [K], float64. Those of several batches may be added.
        """

    @abstractmethod
    def best_output(self, sums: Tensor) -> Tensor:
        """The constant output with the least mean loss.

        Args:
            sums: [K], over all labels.

        Returns:
            The output for one row, [C]. It is not finite where no finite output is best: a class without labels has
            the logit −∞.
        """


class SquaredError(BuiltInLoss):
    """The mean squared error. Its best constant output is the mean of the labels, column by column."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs.flatten(), targets.to(outputs.dtype).flatten())

    def sums(self, targets: Tensor) -> Tensor:
        """The sums of the C columns, and the number of rows."""
        columns = targets.flatten(1) if targets.ndim > 1 else targets[:, None]
        return torch.cat([columns.double().sum(0), torch.tensor([len(targets)], dtype=torch.float64)])

    def best_output(self, sums: Tensor) -> Tensor:
        return sums[:-1] / sums[-1]


class BinaryCrossEntropy(BuiltInLoss):
    """The cross entropy of yes or no: −w(t)·(t·log p + (1 − t)·log(1 − p)), p = sigmoid(logit).

    The best constant output has p = Σ w·t / Σ w: the share of yes, by weight.
    """

    def __init__(self, weights: Weights | None) -> None:
        """
        Args:
            weights: the factors w of the losses of no and yes. None: 1.
        """
        self.weights = weights

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logit = logit_of_yes(outputs)
        weights = self._weights(targets)
        of_samples = None if weights is None else weights.to(logit.dtype)
        return F.binary_cross_entropy_with_logits(logit, targets.to(logit.dtype), of_samples)

    def _weights(self, targets: Tensor) -> Tensor | None:
        return torch.where(targets > 0, self.weights[1], self.weights[0]) if self.weights else None

    def sums(self, targets: Tensor) -> Tensor:
        """The sums of w·(1 − t) and w·t."""
        yes, weights = targets.double().flatten(), self._weights(targets)
        factors = torch.ones_like(yes) if weights is None else weights.double().flatten()
        return torch.stack([(factors * (1 - yes)).sum(), (factors * yes).sum()])

    def best_output(self, sums: Tensor) -> Tensor:
        """Two logits, of no and yes."""
        return sums.log()


class CrossEntropy(BuiltInLoss):
    """The cross entropy of one class out of several: −w(t)·log softmax(logits)[t].

    The best constant output has softmax = (Σ w of a class) / Σ w: the shares of the classes, by weight.
    """

    def __init__(self, task: str, classes: int, weights: Weights | None) -> None:
        """
        Args:
            task: the name of the task, for messages.
            classes: the number of classes.
            weights: [classes], the factors w of the losses by their label. None: 1.
        """
        self.task, self.classes, self.weights = task, classes, weights

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `BuiltInLoss`. Raises TypeError for targets that are no whole numbers."""
        if targets.is_floating_point():
            raise TypeError(
                f"targets of '{self.task}' should be class numbers of a whole-number type, found {targets.dtype}: "
                "convert them by .long(), and let a negative number stand for a label that is missing (missing=-1)"
            )
        targets = targets.long()  # torch takes int64 and uint8 only
        if self.weights is None:
            return F.cross_entropy(outputs, targets)
        on_device = _on_device(self.weights, outputs.device, outputs.dtype)
        return F.cross_entropy(outputs, targets, on_device, reduction="sum") / len(targets)

    def sums(self, targets: Tensor) -> Tensor:
        """The sum of w for each class."""
        counts = torch.bincount(targets.long().flatten(), minlength=self.classes).double()
        return counts if self.weights is None else counts * torch.tensor(self.weights, dtype=torch.float64)

    def best_output(self, sums: Tensor) -> Tensor:
        return sums.log()


@cache  # a copy to a GPU at every step would make the CPU wait for it
def _on_device(weights: Weights, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(weights, device=device, dtype=dtype)


def logit_of_yes(outputs: Tensor) -> Tensor:
    """The logit of yes, [N]. The softmax of two logits is the sigmoid of their difference; so are loss and gradient.

    Args:
        outputs: of a binary task's head, [N], [N, 1] or [N, 2].

    Raises:
        ValueError: the outputs have another shape.
    """
    if outputs.ndim > 2 or (outputs.ndim == 2 and outputs.shape[1] > 2):
        raise ValueError(f"a binary task's head should give [N], [N, 1] or [N, 2], found {list(outputs.shape)}")
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1:] == (2,) else outputs.flatten()
