"""Collects the predictions of an evaluation, for predictions.npz."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlcluster.problem import Task
from mtlcluster.sweep.predictions import LARGEST_OUTPUTS, Predictions, TaskPredictions, sums, write_predictions
from mtlcluster.training.distributed import Ranks

Part = tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]  # targets, outputs, sums of a batch


class PredictionCollector:
    """Keeps what the metrics of each task see, batch by batch.

    The outputs of dense tasks are not kept, nor any outputs if all of them together would take more than
    LARGEST_OUTPUTS bytes. Then the sums of each sample are kept that the metrics are made of.
    """

    def __init__(self, tasks: Sequence[Task], samples: int, thresholds: Mapping[str, float]) -> None:
        """
        Args:
            tasks: The tasks that are evaluated.
            samples: The number of samples of the data.
            thresholds: The thresholds of the binary tasks that have none of their own.
        """
        self.tasks, self.samples = tasks, samples
        self.thresholds = {
            task.name: task.threshold if task.threshold is not None else thresholds.get(task.name)
            for task in tasks
            if task.kind == "binary"
        }
        self.parts: dict[str, list[Part]] = {task.name: [] for task in tasks}
        self.too_large: bool | None = None  # known after the first batch

    def add(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
        """Adds a batch.

        Args:
            outputs: What the heads give, by task: [N, …], on any device.
            targets: By task: [N, …].
        """
        decoded = {t.name: t.decode(outputs[t.name]).cpu() for t in self.tasks if not t.dense}
        if self.too_large is None:
            a_sample = sum(4 * of_task.numel() / len(targets[name]) for name, of_task in decoded.items())
            self.too_large = a_sample * self.samples > LARGEST_OUTPUTS
        for task in self.tasks:
            target = _with_gaps(task, targets[task.name])
            if task.dense:
                part: Part = (None, None, self._dense_sums(task, outputs[task.name], target))
            else:
                part = self._part(task, decoded[task.name], target)
            self.parts[task.name].append(part)

    def _part(self, task: Task, output: Tensor, target: Tensor) -> Part:
        outputs, targets = _flat(output), _flat(target)
        if self.too_large:
            return None, None, sums(task.kind, targets, outputs, self.thresholds.get(task.name))
        return targets.astype(np.float32), outputs.astype(np.float32), None

    def _dense_sums(self, task: Task, output: Tensor, target: Tensor) -> NDArray[Any] | None:
        """The sums of each sample, over its elements."""
        found = []
        for one, of_one in zip(output, target, strict=True):
            outputs, targets = task.seen(one[None], of_one[None], None)
            summed = self._summed(task, task.decode(outputs).cpu().numpy(), _flat(targets))
            if summed is None:
                return None
            found.append(summed)
        return np.array(found)

    def _summed(self, task: Task, outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any] | None:
        """The sums over the elements of one sample of a dense task. Classes are counted: a matrix is too large."""
        if task.kind == "classification" and outputs.ndim == 2 and targets.ndim == 1:
            known = ~np.isnan(targets)
            true, decided, classes = targets[known].astype(int), outputs[known].argmax(1), outputs.shape[1]
            counted = (true[true == decided], decided, true)
            return np.concatenate([np.bincount(part, minlength=classes) for part in counted])
        of_elements = sums(task.kind, targets, outputs, self.thresholds.get(task.name)) if targets.ndim == 1 else None
        return None if of_elements is None else of_elements.sum(0)

    def write(self, path: Path, dataset: Any, indices: Sequence[Tensor], ranks: Ranks) -> None:
        """Writes predictions.npz, in the order of the dataset. All ranks call it; rank 0 writes.

        Args:
            path: The file.
            dataset: The data. Its `ids` name the samples, and its `clusters` name what each sample belongs to.
            indices: The samples of each batch of this rank.
            ranks: The processes that evaluate together.
        """
        found = ranks.all_of((torch.cat(list(indices)).numpy() if indices else np.empty(0, int), self.parts))
        if ranks.rank:
            return
        order = np.concatenate([of_rank for of_rank, _ in found]).argsort()
        tasks = []
        for task in self.tasks:
            parts = [part for _, of_rank in found for part in of_rank[task.name]]
            targets, outputs, summed = (_joined([part[k] for part in parts], order) for k in range(3))
            tasks.append(
                TaskPredictions(task.name, task.kind, self.thresholds.get(task.name), targets, outputs, summed)
            )
        clusters = getattr(dataset, "clusters", None)
        ids = [str(one) for one in getattr(dataset, "ids", range(len(dataset)))]
        write_predictions(path, Predictions(ids, None if clusters is None else list(map(str, clusters)), tasks))


def _with_gaps(task: Task, target: Tensor) -> Tensor:
    """The targets on the CPU as float64, NaN where there is no label."""
    return target.cpu().double().masked_fill(task.is_missing(target).cpu(), float("nan"))


def _flat(values: Tensor) -> NDArray[Any]:
    """[N] for one number a row, else [N, C]."""
    flat: NDArray[Any] = values.reshape(len(values), -1).cpu().numpy()
    return flat[:, 0] if flat.shape[1] == 1 else flat


def _joined(parts: Sequence[NDArray[Any] | None], order: NDArray[Any]) -> NDArray[Any] | None:
    """The parts of all batches together, in the order of the dataset. None if a part is missing."""
    present = [part for part in parts if part is not None]
    if len(present) < len(parts) or not parts:
        return None
    joined: NDArray[Any] = np.concatenate(present)[order]
    return joined
