"""What a job gives to the loop: a model with a shared trunk and one head per task, data, and tasks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

if TYPE_CHECKING:       # two seconds, which only those who use it shall pay
    import torchmetrics

Direction = Literal["min", "max"]


def as_they_are(outputs: Tensor) -> Tensor:
    return outputs


@dataclass(frozen=True)
class Task:
    """One task.

    loss: of a head's outputs [N, …] and the targets [N, …], a mean over the N samples. metrics: torchmetrics, by name;
    they see `decode(outputs)`. missing: the target that stands for "no label" (a number, or NaN): such samples are left
    out of loss and metrics; None where every sample has a label. The classmethods below fill all this for common kinds.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    kind: Literal["classification", "regression"]
    metrics: Mapping[str, "torchmetrics.Metric"] = field(default_factory=dict)
    decode: Callable[[Tensor], Tensor] = as_they_are
    missing: float | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"a task's name must not be empty nor contain '/', found {self.name!r}")
        for name, metric in self.metrics.items():
            if metric.higher_is_better is None:
                raise ValueError(f"metric '{name}' of task '{self.name}' does not say whether higher is better")

    def direction(self, value: str) -> Direction:
        """Which direction of `value` ("loss" or a metric's name) is better. Raises ValueError where there is none."""
        if value == "loss":
            return "min"
        if value not in self.metrics:
            known = ", ".join(("loss", *self.metrics))
            raise ValueError(f"task '{self.name}' has no value '{value}' (known: {known})")
        return "max" if self.metrics[value].higher_is_better else "min"

    def labelled(self, targets: Tensor) -> Tensor | None:
        """The positions of the samples that have a label, or None where all have."""
        if self.missing is None:
            return None
        present = ~targets.isnan() if self.missing != self.missing else targets != self.missing
        present = present.flatten(1).all(1) if present.ndim > 1 else present
        return None if bool(present.all()) else present.nonzero().squeeze(1)

    @classmethod
    def classification(cls, name: str, classes: int, missing: float | None = None) -> "Task":
        """Logits [N, classes], targets [N] of class numbers; cross entropy; accuracy and macro F1."""
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        metrics = {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "f1": MulticlassF1Score(classes, average="macro"),
        }
        return cls(name, F.cross_entropy, "classification", metrics, missing=missing)

    @classmethod
    def binary(cls, name: str, missing: float | None = None) -> "Task":
        """One logit [N] or [N, 1], targets [N] of 0 and 1; binary cross entropy; accuracy and F1."""
        from torchmetrics.classification import BinaryAccuracy, BinaryF1Score

        metrics = {"accuracy": BinaryAccuracy(), "f1": BinaryF1Score()}
        return cls(name, _binary_loss, "classification", metrics, _probability, missing)

    @classmethod
    def regression(cls, name: str, missing: float | None = None) -> "Task":
        """Outputs [N] or [N, 1], targets [N]; mean squared error; mean absolute error and R²."""
        from torchmetrics import MeanAbsoluteError, R2Score

        metrics = {"mae": MeanAbsoluteError(), "r2": R2Score()}
        return cls(name, _squared_error, "regression", metrics, _flat, missing)


def _flat(outputs: Tensor) -> Tensor:
    return outputs.flatten()


def _probability(outputs: Tensor) -> Tensor:
    return torch.sigmoid(outputs.flatten())


def _binary_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs.flatten(), targets.to(outputs.dtype))


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs.flatten(), targets.to(outputs.dtype))


class MultiTaskModel(nn.Module):
    """A shared trunk and one head per task. Subclass and override `forward` for anything less plain; the parameters
    outside `heads` are the shared ones.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those outside the heads, in the order of their registration."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("heads.")]

    def forward(self, inputs: Any, tasks: list[str]) -> dict[str, Tensor]:
        """The outputs of the heads of `tasks`; no other head is computed."""
        representation = self.trunk(inputs)
        return {task: self.heads[task](representation) for task in tasks}


@dataclass
class Problem:
    """An experiment, as a job's `build` gives it.

    The data are map-style datasets of pairs (inputs, targets): inputs in any nest of tensors, targets a dict by task.
    A dataset may have `ids` (a name for each sample, by which errors and predictions call it) and `lengths` (batches
    then hold samples of similar length). collate makes a batch of a list of such pairs (torch's own, if left out);
    workers is how many processes load data.
    """

    model: MultiTaskModel
    tasks: list[Task]
    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a problem needs tasks with names of their own, found {names}")
        if missing := [name for name in names if name not in self.model.heads]:
            raise ValueError(f"the model has no head for {', '.join(missing)}")
