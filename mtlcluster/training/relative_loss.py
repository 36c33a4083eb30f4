"""`relative_loss`: the mean over tasks of the loss in an evaluation over that of a constant output.

The constant output is the best one for the training labels (see constant_output.py), and its loss is that on the labels
of the evaluation. So 1 means "no better than without looking at the inputs" for every task, whatever the scale of its
loss. In `mean_loss` the task with the largest loss decides.

Where a constant output was not found, or has no positive finite loss on the validation data, the loss of the first
validation stands for it, and a note says so. A task without labels in the data is left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlcluster.problem import Task
from mtlcluster.sweep.series import LOSS, RELATIVE_LOSS, TEST, VALIDATION, task_value
from mtlcluster.training.constant_output import CLOSED_FORM, NoConstant, constant_loss, training_labels
from mtlcluster.training.distributed import Ranks
from mtlcluster.training.metrics import NO_LABELS
from mtlcluster.training.resume.checkpoint import State
from mtlcluster.training.seeding import random_state, set_random_state
from mtlcluster.training.validation import Evaluation

FIRST_VALIDATION = "first validation"
Shapes = Callable[[], Mapping[str, Sequence[int]]]


class ConstantLosses:
    """Adds up the losses of the constant outputs over the batches of an evaluation."""

    def __init__(self, tasks: Sequence[Task], outputs: Mapping[str, Tensor], device: torch.device) -> None:
        """
        Args:
            tasks: The tasks.
            outputs: The constant outputs, for some of the tasks.
            device: Where losses are computed.
        """
        self.tasks = [task for task in tasks if task.name in outputs]
        self.outputs = {name: output.to(device) for name, output in outputs.items()}
        self.device = device
        self.sums, self.counts = [0.0] * len(self.tasks), [0] * len(self.tasks)

    def add(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        """Adds a batch.

        Args:
            outputs: What the heads give; it does not matter.
            targets: By task [N, …], on the CPU.
        """
        for k, task in enumerate(self.tasks):
            labels = task.labels(targets[task.name])
            if len(labels):
                self.sums[k] += constant_loss(task, self.outputs[task.name], labels.to(self.device))
                self.counts[k] += len(labels)

    def means(self, ranks: Ranks) -> dict[str, float]:
        """The mean losses over the batches of all ranks, for tasks with labels there."""
        parts = ranks.all_of((self.sums, self.counts))
        sums, counts = ([sum(column) for column in zip(*rows, strict=True)] for rows in zip(*parts, strict=True))
        names = [task.name for task in self.tasks]
        return {name: total / count for name, total, count in zip(names, sums, counts, strict=True) if count}


class RelativeLoss:
    """Makes `relative_loss` of the losses of an evaluation.

    It keeps training labels during the first epoch, fits the constant outputs before the first validation, and
    remembers their losses on the validation data.

    Attributes:
        outputs: By task the constant output. None before they are fitted.
        relative_to: For each task with validation labels what its validation losses are divided by (`validation`), how
            it was found (`how`), and, unless that is "first validation", the constant output (`output`). Empty before
            the first validation has ended. It is part of the history.
        reasons: By task why it has no constant output, or none that can be used.
        is_left_out: True if this run goes on from a checkpoint of a version without this value: then there is none.
    """

    def __init__(self, tasks: Sequence[Task], batches: int, device: torch.device, ranks: Ranks) -> None:
        """
        Args:
            tasks: The tasks that train.
            batches: The number of batches of an epoch.
            device: Where losses are computed.
            ranks: The processes that train the run.
        """
        self.tasks, self.batches, self.device, self.ranks = tasks, batches, device, ranks
        self.outputs: dict[str, Tensor] | None = None
        self.relative_to: dict[str, dict[str, Any]] = {}
        self.reasons: dict[str, str] = {}
        self.is_left_out = False
        self._set_labels([])

    def _set_labels(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the labels of these states, and no others."""
        self.labels = {task.name: training_labels(task, self.batches * self.ranks.size) for task in self.tasks}
        for state in states:
            for name, labels in self.labels.items():
                labels.add_state(state[name])

    def _label_states(self) -> list[dict[str, Any]]:
        """What the labels of every rank keep."""
        return self.ranks.all_of({name: labels.state() for name, labels in self.labels.items()})

    def keep(self, targets: Mapping[str, Tensor]) -> None:
        """Keeps the labels of a training batch of this rank, by task [N, …], on the CPU."""
        for task in self.tasks:
            self.labels[task.name].add(task.labels(targets[task.name]))

    def fit(self, shapes: Shapes) -> None:
        """Fits the constant outputs, unless they are fitted. All ranks call it together; rank 0 fits.

        Args:
            shapes: Gives by task the shape of the head's output for one row. It is called only if a task has a loss of
                the user's own, since it calls the model.
        """
        if self.outputs is not None or self.is_left_out:
            return
        self._set_labels(self._label_states())
        random = random_state()
        fitted = self._fit(shapes) if not self.ranks.rank else ({}, {})
        set_random_state(random)  # a user's loss may draw
        self.outputs, self.reasons = self.ranks.same(fitted)
        self._set_labels([])

    def _fit(self, shapes: Shapes) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The constant outputs, and why tasks have none."""
        outputs, reasons = {}, {}
        needed = any(labels.how != CLOSED_FORM for labels in self.labels.values())
        of_heads = shapes() if needed else {}
        for name, labels in self.labels.items():
            try:
                outputs[name] = labels.best_output(of_heads.get(name, ()), self.device)
            except NoConstant as error:
                reasons[name] = f"no constant output was found ({error})"
        return outputs, reasons

    def measure(self, data: str) -> ConstantLosses:
        """Measures the losses of the constant outputs in an evaluation; on validation data only in the first one.

        Args:
            data: "validation" or "test".
        """
        needed = data == TEST or not self.relative_to
        return ConstantLosses(self.tasks, self.outputs if needed and self.outputs else {}, self.device)

    def complete(self, data: str, found: Evaluation, measured: ConstantLosses) -> Evaluation:
        """Adds the value to an evaluation. The first validation decides what losses are relative to.

        Args:
            data: "validation" or "test".
            found: The evaluation.
            measured: What `measure` has measured in it.
        """
        if self.is_left_out:
            return found
        means = measured.means(self.ranks)
        if data == VALIDATION and not self.relative_to:
            for task in self.tasks:
                if task_value(task.name, LOSS) not in found.undefined:
                    self.relative_to[task.name] = self._entry(task.name, found, means.get(task.name))
        value, reason = relative_loss(found, self._references(means if data == TEST else {}))
        undefined = {**found.undefined, RELATIVE_LOSS: reason} if reason else found.undefined
        return replace(found, values={**found.values, RELATIVE_LOSS: value}, undefined=undefined)

    def _entry(self, task: str, found: Evaluation, constant: float | None) -> dict[str, Any]:
        """What the losses of a task are relative to, by the first validation."""
        if constant is not None and is_usable(constant):
            assert self.outputs is not None
            return {VALIDATION: constant, "how": self.labels[task].how, "output": self.outputs[task].tolist()}
        if constant is not None:
            self.reasons[task] = f"the best constant output has a loss of {constant:.4g} on the validation data"
        return {VALIDATION: found.values[task_value(task, LOSS)], "how": FIRST_VALIDATION}

    def _references(self, means: Mapping[str, float]) -> dict[str, float]:
        """By task what its loss is divided by.

        Args:
            means: The losses of the constant outputs on the test data. Where one is missing or can't be used, the
                number of the validation data is taken.
        """
        return {
            task: means[task]
            if entry["how"] != FIRST_VALIDATION and is_usable(means.get(task, math.nan))
            else entry[VALIDATION]
            for task, entry in self.relative_to.items()
        }

    def go_by(self, relative_to: dict[str, dict[str, Any]]) -> None:
        """Takes the constant outputs from a history, whose checkpoints need not be here. Empty: there is no value."""
        self.relative_to, self.is_left_out = relative_to, not relative_to
        self.outputs = {name: torch.tensor(one["output"]) for name, one in relative_to.items() if "output" in one}

    def notes(self) -> list[str]:
        """A sentence for each task whose losses are not relative to those of a constant output."""
        return [
            f"relative_loss: the loss of task '{task}' is relative to that of the first validation "
            f"({entry[VALIDATION]:.4g}): {self.reasons[task]}"
            for task, entry in self.relative_to.items()
            if entry["how"] == FIRST_VALIDATION
        ]

    def state_dict(self) -> State:
        """The same on every rank."""
        return {
            "labels": self._label_states() if self.outputs is None else [],
            "outputs": self.outputs, "relative_to": self.relative_to, "reasons": self.reasons,
            "is_left_out": self.is_left_out,
        }  # fmt: skip

    def load_state_dict(self, state: State) -> None:
        self._set_labels(state["labels"][self.ranks.rank :: self.ranks.size])  # its own, if as many ranks as before
        self.outputs, self.relative_to = state["outputs"], state["relative_to"]
        self.reasons, self.is_left_out = state["reasons"], state["is_left_out"]


def relative_loss(found: Evaluation, references: Mapping[str, float]) -> tuple[float, str]:
    """The mean over tasks of the loss over its reference.

    Args:
        found: An evaluation.
        references: By task what its loss is divided by. Tasks that are missing here, and tasks without labels, are
            left out.

    Returns:
        The value and "", or NaN and the reason why it is undefined.
    """
    names = {task: task_value(task, LOSS) for task in references}
    present = {task: found.values[name] for task, name in names.items() if name not in found.undefined}
    if not present:
        return math.nan, NO_LABELS
    for task in present:
        if not is_usable(references[task]):
            words = "and a loss can be relative to a positive one only"
            return math.nan, f"the loss of task '{task}' was {references[task]:.4g} at the first validation, {words}"
    return sum(loss / references[task] for task, loss in present.items()) / len(present), ""


def is_usable(loss: float) -> bool:
    """True if losses can be relative to this one."""
    return 0 < loss < math.inf
