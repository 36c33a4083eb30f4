"""The problem that a job defines: a model with a shared trunk and one head per task, data, and tasks."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from mtlcluster.errors import nearest
from mtlcluster.losses import BinaryCrossEntropy, CrossEntropy, SquaredError, logit_of_yes

if TYPE_CHECKING:  # importing it takes two seconds
    import torchmetrics

Direction = Literal["min", "max"]


NOT_IN_A_NAME = re.compile(r"""[./'"\x00-\x1f\x7f-\x9f\ud800-\udfff]""")  # the last are halves of characters


def as_they_are(outputs: Tensor) -> Tensor:
    return outputs


def refuse_bad_name(name: str) -> None:
    """Raises ValueError for what can't be the name of a task: it stands in file names, state dicts and tables."""
    if not isinstance(name, str) or not name or name != name.strip() or NOT_IN_A_NAME.search(name):
        raise ValueError(
            "a task's name should be a text without dots, slashes, quotes and control characters, and without blanks "
            f"at its ends, found {name!r}"
        )


def refuse_missing_outputs(outputs: Mapping[str, Tensor], tasks: Iterable[str]) -> None:
    """Raises ValueError if the model's forward has left out a task that it was asked for."""
    for task in tasks:
        if task not in outputs:
            raise ValueError(f"the model's forward gave no output for task '{task}'{nearest(task, outputs)}")


@dataclass(frozen=True)
class Task:
    """One task. The class methods below fill in everything for common kinds.

    Of a dense task every element (pixel) of a sample (image) has outputs and a label of its own. Loss, metrics and
    `decode` then see one row for each labelled element of the batch: outputs [P, C], and targets [P], or [P, C] for
    targets with channels. A task that is not dense has one row for each labelled sample. N below is the number of
    these rows. The loss of a step is the mean over all its rows, in all micro-batches and ranks.

    Args:
        name: a text without dots, slashes, quotes and control characters, and without blanks at its ends.
        loss: takes a head's outputs [N, …] and the targets [N, …]; returns a scalar, the mean over the N rows.
        kind: "binary", "classification" or "regression".
        metrics: torchmetrics by name. They see `decode(outputs)` and the targets.
        decode: makes predictions [N, …] of outputs [N, …]; for the kind "binary" the probability of yes, [N].
        missing: the target that stands for "no label": a number, or NaN. Loss and metrics leave such rows out. None:
            every row has a label.
        threshold: for the kind "binary"; yes is decided where the probability is above it, in [0, 1). None: the
            threshold with the best F1 on the validation data. Curves see probabilities, all other metrics decisions.
        classes: the labels are 0 … classes − 1. None: any number.
        dense: the head gives [N, C, H, W], and the targets are [N, H, W] (or [N, 1, H, W]), or [N, C, H, W] with
            channels. With channels an element is missing if all its channels equal `missing`. An image without any
            label counts for nothing.

    Raises:
        ValueError: the name, the threshold or a metric cannot be used.

    Example:
        >>> huber = Task("depth", F.huber_loss, "regression", {"mae": MeanAbsoluteError()}, missing=0, dense=True)
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    kind: Literal["binary", "classification", "regression"]
    metrics: Mapping[str, "torchmetrics.Metric"] = field(default_factory=dict)
    decode: Callable[[Tensor], Tensor] = as_they_are
    missing: float | None = None
    threshold: float | None = 0.5
    classes: int | None = None
    dense: bool = False

    def __post_init__(self) -> None:
        refuse_bad_name(self.name)
        for name, metric in self.metrics.items():
            if getattr(metric, "higher_is_better", None) is None:
                raise ValueError(
                    f"metric '{name}' of task '{self.name}', a {type(metric).__name__}, does not say whether higher is "
                    "better: say so in a subclass (higher_is_better = True); give a collection's metrics one by one"
                )
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"the threshold of task '{self.name}' should be in [0, 1), found {self.threshold}")
        if self.dense and self.kind == "binary" and self.threshold is None:
            raise ValueError(
                f"task '{self.name}' is dense and needs a threshold: to choose one, all elements of the validation "
                "data would have to be kept"
            )

    def direction(self, value: str) -> Direction:
        """The better direction of a value.

        Args:
            value: "loss" or the name of a metric.

        Returns:
            "min" or "max".

        Raises:
            ValueError: the task has no such value.
        """
        if value == "loss":
            return "min"
        if value not in self.metrics:
            known = ", ".join(("loss", *self.metrics))
            raise ValueError(f"task '{self.name}' has no value '{value}' (known: {known})")
        return "max" if self.metrics[value].higher_is_better else "min"

    def rows(self, tensor: Tensor) -> Tensor:
        """Outputs or targets of a batch with one row for each sample, or for each element of a dense task.

        Args:
            tensor: [N, …]; for a dense task [N, C, H, W] or [N, H, W].

        Returns:
            [N, …] as it is; for a dense task [N·H·W, C] or [N·H·W].

        Raises:
            ValueError: the task is dense, and the tensor has another number of dimensions.
        """
        if not self.dense:
            return tensor
        if tensor.ndim not in (3, 4):
            raise ValueError(
                f"task '{self.name}' is dense: its outputs should be [N, C, H, W] and its targets [N, H, W] or "
                f"[N, C, H, W], found {list(tensor.shape)}"
            )
        return tensor.flatten() if tensor.ndim == 3 else tensor.movedim(1, -1).flatten(0, 2)

    def is_missing(self, targets: Tensor) -> Tensor:
        """Marks the targets that stand for "no label".

        Args:
            targets: [N, …], of a batch.

        Returns:
            bool, of the shape of `targets`. In a dense task the channels of an element are missing together: if all of
            them equal `missing`.
        """
        if self.missing is None:
            return torch.zeros_like(targets, dtype=torch.bool)
        missing = targets.isnan() if self.missing != self.missing else targets == self.missing
        if self.dense and targets.ndim == 4:
            missing = missing.all(1, keepdim=True).expand_as(missing)
        return missing

    def labelled(self, targets: Tensor) -> Tensor | None:
        """The positions of the rows that have a label.

        Args:
            targets: [N, …], of a batch.

        Returns:
            Positions [P], int64, ascending; for a dense task positions in `rows(targets)`. None: all have a label.
        """
        if self.missing is None:
            return None
        present = ~self.rows(self.is_missing(targets))
        if present.ndim > 1:
            present = present.flatten(1).all(1)
        return None if bool(present.all()) else present.nonzero().squeeze(1)

    def seen(self, outputs: Tensor, targets: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The outputs and targets of a batch as the loss and the metrics see them.

        Args:
            outputs: [N, …], what the task's head gives.
            targets: [N, …].
            positions: of the rows to keep, as `labelled` gives them; None: all.

        Returns:
            The rows [P, …] of both.

        Raises:
            ValueError: the task is dense, and outputs and targets differ in height or width.
        """
        kept, labels = self.rows(outputs), self._label_rows(targets)
        if self.dense and len(kept) != len(labels):
            raise ValueError(
                f"outputs of '{self.name}' are {list(outputs.shape)}, its targets {list(targets.shape)}: height and "
                "width should be the same"
            )
        if positions is None:
            return kept, labels
        return kept[positions.to(kept.device)], labels[positions.to(labels.device)]

    def labels(self, targets: Tensor) -> Tensor:
        """The labels of a batch as the loss sees them.

        Args:
            targets: [N, …].

        Returns:
            The rows [P, …] that have a label.
        """
        positions, rows = self.labelled(targets), self._label_rows(targets)
        return rows if positions is None else rows[positions]

    def _label_rows(self, targets: Tensor) -> Tensor:
        """The targets with one row for each output row. A single channel of a dense task is left out: [N]."""
        rows = self.rows(targets)
        return rows[:, 0] if self.dense and rows.ndim == 2 and rows.shape[1] == 1 else rows

    @classmethod
    def classification(
        cls,
        name: str,
        classes: int,
        missing: float | None = None,
        class_weights: Sequence[float] | None = None,
        dense: bool = False,
    ) -> "Task":
        """A task of one class out of several: cross entropy; accuracy and macro F1.

        Args:
            name: see `Task`.
            classes: the head gives logits [N, classes]; targets [N] are class numbers of a whole-number type. Dense:
                logits [N, classes, H, W], targets [N, H, W].
            missing: see `Task`.
            class_weights: [classes], factors of the losses by their label. The plain mean of the products is taken. It
                is not divided by the sum of the weights, as torch does: then a loss over several batches would depend
                on how the samples are cut into them.
            dense: see `Task`.

        Returns:
            The task.

        Raises:
            ValueError: see `Task`; or there are fewer than two classes, or `class_weights` are not `classes` positive
                numbers.
        """
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        if classes < 2:
            raise ValueError(f"task '{name}' should have at least 2 classes, found {classes}; yes or no is Task.binary")

        metrics = {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "f1": MulticlassF1Score(classes, average="macro"),
        }
        weights = _checked_weights(name, class_weights, classes)
        loss = CrossEntropy(name, classes, weights)
        return cls(name, loss, "classification", metrics, missing=missing, classes=classes, dense=dense)

    @classmethod
    def binary(
        cls,
        name: str,
        missing: float | None = None,
        class_weights: tuple[float, float] | None = None,
        threshold: float | None = 0.5,
        dense: bool = False,
    ) -> "Task":
        """A task of yes or no: binary cross entropy.

        The metrics are accuracy; precision, recall and F1 of yes; the mean of the F1 of both classes (f1_macro) and
        their mean by support (f1_weighted); the area under the ROC curve (roc_auc) and average precision. For a dense
        task the two curves have 200 thresholds, since not all elements can be kept.

        Args:
            name: see `Task`.
            missing: see `Task`.
            class_weights: factors of the losses of no and yes; see `classification`.
            threshold: see `Task`.
            dense: the head gives one logit [N, 1, H, W], or two, of no and yes, [N, 2, H, W]; targets [N, H, W] are 0
                and 1. Else the head gives one logit [N] or [N, 1], or two, [N, 2]; targets are [N].

        Returns:
            The task.

        Raises:
            ValueError: see `Task`; or `class_weights` are not two positive numbers.
        """
        from torchmetrics import classification as of

        curve = 200 if dense else None
        metrics = {
            "accuracy": of.BinaryAccuracy(),
            "precision": of.BinaryPrecision(),
            "recall": of.BinaryRecall(),
            "f1": of.BinaryF1Score(),
            "f1_macro": of.MulticlassF1Score(2, average="macro"),
            "f1_weighted": of.MulticlassF1Score(2, average="weighted"),
            "roc_auc": of.BinaryAUROC(thresholds=curve),
            "average_precision": of.BinaryAveragePrecision(thresholds=curve),
        }
        loss = BinaryCrossEntropy(_checked_weights(name, class_weights, 2))
        return cls(name, loss, "binary", metrics, _probability, missing, threshold, classes=2, dense=dense)

    @classmethod
    def regression(cls, name: str, missing: float | None = None, dense: bool = False) -> "Task":
        """A task of numbers: mean squared error; mean absolute error and R².

        Args:
            name: see `Task`.
            missing: see `Task`.
            dense: the head gives [N, C, H, W]; targets are [N, H, W] for one channel, or [N, C, H, W]. Else the head
                gives [N] or [N, 1]; targets are [N].

        Returns:
            The task.

        Raises:
            ValueError: see `Task`.
        """
        from torchmetrics import MeanAbsoluteError, R2Score

        metrics = {"mae": MeanAbsoluteError(), "r2": R2Score()}
        return cls(name, SquaredError(), "regression", metrics, _column, missing, dense=dense)


def _column(outputs: Tensor) -> Tensor:
    """Turns [N, 1] into [N], and leaves several columns as they are."""
    return outputs if outputs.ndim == 2 and outputs.shape[1] > 1 else outputs.flatten()


def _probability(outputs: Tensor) -> Tensor:
    return torch.sigmoid(logit_of_yes(outputs))


def _checked_weights(name: str, weights: Sequence[float] | None, classes: int) -> tuple[float, ...] | None:
    if weights is None:
        return None
    if len(weights) != classes or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"class_weights of task '{name}' should be {classes} positive numbers, found {weights}")
    return tuple(map(float, weights))


class Heads(nn.ModuleDict):
    """The heads by task. Unlike its base it takes every task's name, also `type`, `values` or `train`."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self._modules[name] = module  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            super().__setattr__(name, value)
        else:  # torch sets `training`; with a head of that name its own __setattr__ would take this for the head
            object.__setattr__(self, name, value)


class MultiTaskModel(nn.Module):
    """A shared trunk and one head per task.

    The parameters of `heads` belong to their tasks; all others are shared. Subclass it and override `forward` for
    anything less plain. State that a module keeps from step to step belongs in a buffer or in `get_extra_state`:
    checkpoints do not hold plain attributes.

    Args:
        trunk: gives the representation of a batch of inputs.
        heads: by task; each takes the representation [N, …] and gives the task's outputs [N, …].
        last_shared_layer: see the attribute of this name.

    Attributes:
        last_shared_layer: the name of the last shared module, such as "trunk.2". The weighting `gradnorm` and the
            option `at: last_layer` take the gradients of its weight. None: the layer that the first forward calls last
            (see their option `layer`). A subclass may say it, too, as a class attribute.

    Example:
        >>> trunk = nn.Sequential(nn.Linear(300, 64), nn.ReLU())
        >>> model = MultiTaskModel(trunk, {"topic": nn.Linear(64, 8), "funny": nn.Linear(64, 1)})
        >>> model(inputs, ["topic"])["topic"].shape  # inputs: [N, 300]
        torch.Size([N, 8])
    """

    last_shared_layer: str | None = None

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module], last_shared_layer: str | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = Heads(heads)
        if last_shared_layer is not None:
            self.last_shared_layer = last_shared_layer

    def forward(self, inputs: Any, tasks: list[str]) -> dict[str, Tensor]:
        """Computes the outputs of some tasks for a batch.

        The contract, for those who override it:

        - It computes the heads of `tasks` only. The others cost nothing and get no gradient.
        - A task's outputs depend on `inputs` and the weights, not on which other tasks are asked for.
        - It may be called several times in a step. Called again with the same random state it gives the same outputs.
        - It works in train and in eval mode, with and without gradients, and for a batch of any size.
        - With the option `at: representation` it calls the heads as modules (`self.heads[task](representation)`), since
          hooks of the heads find the representation.

        Args:
            inputs: the inputs of a batch, as the dataset and `collate` give them: any nest of tensors [N, …], on the
                model's device.
            tasks: the names of the tasks to compute, in any order.

        Returns:
            By task the outputs [N, …], for every name in `tasks`. The task's loss sees them as float32.
        """
        representation = self.trunk(inputs)
        return {task: self.heads[task](representation) for task in tasks}

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters outside the heads.

        Returns:
            The parameters, in the order of their registration.
        """
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("heads.")]

    @property
    def names_last_shared_layer(self) -> bool:
        """True if the model says itself which shared layer is the last."""
        return self._modules.get("last_shared_layer", self.last_shared_layer) is not None

    def last_shared_weight(self, layer: str | None = None) -> nn.Parameter:
        """The weight of the last shared layer. If it has several, the last one that is trainable and not a vector.

        Args:
            layer: the name of the layer. None: the model's `last_shared_layer`; if there is none, the layer that is
                registered last.

        Returns:
            The weight, a matrix or a tensor of more dimensions.

        Raises:
            ValueError: the name is that of no trainable shared layer, or none is named and the trunk has none.
        """
        matrices = [p for p in self.shared_parameters() if p.requires_grad and p.ndim > 1]
        name = layer or self._modules.get("last_shared_layer", self.last_shared_layer)
        said = "layer" if layer else "last_shared_layer"
        if not matrices:
            raise ValueError("the method needs a trainable layer in the trunk: all of it is frozen")
        if name is None:
            return matrices[-1]
        if not isinstance(name, str):
            kind = type(name).__name__
            raise ValueError(f"last_shared_layer should be the name of a layer, such as 'trunk.2', found a {kind}")
        modules = dict(self.named_modules())
        if name not in modules:
            raise ValueError(f"{said}: the model has no module '{name}'{nearest(name, filter(None, modules))}")
        shared = {id(matrix) for matrix in matrices}
        of_layer: list[nn.Parameter] = [p for p in modules[name].parameters() if id(p) in shared]
        if not of_layer:
            raise ValueError(f"{said}: '{name}' has no trainable weight that is shared by the tasks")
        return of_layer[-1]


def _is_map_style(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, IterableDataset)


def _described(data: Any) -> str:
    if data is None:
        return "nothing"
    kind = type(data).__name__
    return f"the IterableDataset {kind}" if isinstance(data, IterableDataset) else f"a {kind}"


@dataclass
class Problem:
    """An experiment, as a job's `build` returns it.

    The data are map-style datasets of pairs (inputs, targets): inputs are any nest of tensors, targets a dict by task.
    A dataset may have `ids`, a name for each sample, which errors and predictions use; and `lengths`, a number for each
    sample: batches then hold samples of similar length. It may also have `clusters`, a name for each sample: that of
    the video or of the user that it belongs to. Samples of a cluster depend on each other. So the report draws whole
    clusters where it estimates the error that comes from the choice of the test data.

    Args:
        model: has a head for each task.
        tasks: at least one, with different names.
        train: data to train on.
        validation: data that decide which checkpoint is the best.
        test: data that the best checkpoint is evaluated on at the end. None: there are none.
        collate: makes a batch of a list of pairs. None: torch's own.
        workers: processes that load data.

    Raises:
        ValueError: a head is missing, names are not different, or data are no map-style dataset.

    Example:
        >>> tasks = [Task.classification("topic", classes=8), Task.binary("funny", missing=-1)]
        >>> problem = Problem(model, tasks, train, validation, test)
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
        for name, data in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if not _is_map_style(data) and (data is not None or name != "test"):
                raise ValueError(
                    f"{name} should be a map-style dataset, with __len__ and __getitem__, found {_described(data)}"
                )

    def chosen(self, names: Sequence[str] | None) -> list[Task]:
        """The tasks with some names.

        Args:
            names: the names; None: all.

        Returns:
            The tasks, in the order of the problem.

        Raises:
            ValueError: there is no such task; the message says the nearest name.
        """
        known = {task.name: task for task in self.tasks}
        for name in names or ():
            if name not in known:
                raise ValueError(f"there is no task '{name}'{nearest(name, known)}")
        return [task for task in self.tasks if names is None or task.name in names]
