"""Evaluates binary tasks: metrics of decisions and of probabilities, confusion matrices, and values over all tasks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlcluster.problem import Task
from mtlcluster.sweep.series import EXACT_MATCH, HAMMING_SCORE, MEAN_F1, THRESHOLD, task_value
from mtlcluster.training import metrics
from mtlcluster.training.distributed import Ranks

if TYPE_CHECKING:  # importing it takes two seconds
    import torchmetrics

Array = NDArray[np.float64]
OF_SAMPLES = (EXACT_MATCH, HAMMING_SCORE)  # over all binary tasks that are not dense, sample by sample
# Metrics that are a quotient of nothing by nothing: no number, where torchmetrics gives the 0 of a bad model.
# By the name that Task.binary gives the metric, or by its class.
UNDEFINED_WITHOUT_YES = {
    "recall", "f1", "f1_macro", "roc_auc", "average_precision",
    "BinaryRecall", "BinaryF1Score", "BinaryFBetaScore", "BinaryAUROC", "BinaryAveragePrecision",
}  # fmt: skip
UNDEFINED_WITHOUT_NO = {"f1_macro", "roc_auc", "BinaryAUROC", "BinarySpecificity"}
UNDEFINED_OVER_ALL = {
    MEAN_F1: "no task has an f1",
    EXACT_MATCH: "no sample has a label of every task",
    HAMMING_SCORE: "no sample has a label of every task",
}


@dataclass
class OfTask:
    """The result of an evaluation for one binary task.

    Attributes:
        threshold: the threshold of the decisions.
        was_chosen: true if the threshold was chosen on these data.
        values: each metric's value, NaN where the labels allow none; and the reason for that, else "".
        confusion: counts [2, 2]; rows are the truth, columns the decision, no before yes.
        is_finite: true if all probabilities are.
        decided: decisions [N] of all samples. None for a dense task.
        truth: labels [N], NaN where there is none. None for a dense task.
    """

    threshold: float
    was_chosen: bool
    values: dict[str, tuple[float, str]]
    confusion: list[list[int]]
    is_finite: bool
    decided: NDArray[np.bool_] | None = None
    truth: Array | None = None


class BinaryTotal(ABC):
    """Collects the batches of an evaluation for one binary task."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor, positions: Tensor | None) -> None:
        """Adds one batch.

        Args:
            outputs: what the head gives, on the device.
            targets: on the CPU.
            positions: see `Task.labelled`.
        """

    @abstractmethod
    def gather(self, ranks: Ranks) -> None:
        """Adds the totals of the other ranks."""

    @abstractmethod
    def found(self, thresholds: Mapping[str, float] | None) -> OfTask:
        """Evaluates the task; see `judge`."""


class Gathered(BinaryTotal):
    """The probabilities of yes and the labels of all samples, left on their device until all are there."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.parts: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, targets: Tensor, positions: Tensor | None) -> None:
        labels = targets.double()
        if positions is not None:
            labels = torch.full_like(labels, float("nan")).index_copy(0, positions, labels[positions])
        self.parts.append((self.task.decode(outputs), labels))

    def gather(self, ranks: Ranks) -> None:
        own = [(probabilities.cpu(), labels.cpu()) for probabilities, labels in self.parts]
        self.parts = [part for parts in ranks.all_of(own) for part in parts]

    def arrays(self) -> tuple[Array, Array]:
        """Probabilities [N] and labels [N], NaN where a sample has none."""
        if not self.parts:
            return np.empty(0), np.empty(0)
        probabilities, labels = zip(*self.parts, strict=True)
        return torch.cat(probabilities).double().cpu().numpy(), torch.cat(labels).flatten().cpu().numpy()

    def found(self, thresholds: Mapping[str, float] | None) -> OfTask:
        probabilities, truth = self.arrays()
        known = ~np.isnan(truth)
        threshold, was_chosen = self.task.threshold, False
        if threshold is None and thresholds is not None:
            threshold = thresholds[self.task.name]
        elif threshold is None:
            threshold, was_chosen = best_threshold(probabilities[known], truth[known] > 0), True
        decided = probabilities > threshold
        values = _values(self.task, probabilities[known], decided[known], truth[known] > 0)
        confusion = _confusion(decided[known], truth[known] > 0)
        is_finite = bool(np.isfinite(probabilities[known]).all())
        return OfTask(threshold, was_chosen, values, confusion, is_finite, decided, truth)


class Counted(BinaryTotal):
    """The confusion matrix and the metrics of a dense task, updated batch by batch.

    The elements themselves are not kept: they are too many.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        super().__init__(task)
        self.confusion = torch.zeros(2, 2, dtype=torch.int64, device=device)
        self.metrics = {name: metric.clone().to(device) for name, metric in task.metrics.items()}
        self.is_finite = True

    def add(self, outputs: Tensor, targets: Tensor, positions: Tensor | None) -> None:
        outputs, targets = self.task.seen(outputs, targets, positions)
        probabilities, labels = self.task.decode(outputs), (targets > 0).long().to(outputs.device)
        decided = self._decided(probabilities)
        self.confusion += torch.bincount(2 * labels + decided, minlength=4).view(2, 2)
        self.is_finite = self.is_finite and bool(probabilities.isfinite().all())
        if self.is_finite and len(labels):
            for name, metric in self.metrics.items():
                seen = probabilities if _is_curve(metric) else decided
                metrics.update(self.task, name, metric, seen, labels)

    def _decided(self, probabilities: Tensor) -> Tensor:
        assert self.task.threshold is not None  # a dense task has one
        return (probabilities.double() > self.task.threshold).long()

    def gather(self, ranks: Ranks) -> None:
        """torchmetrics adds up the metrics by itself, when they are computed."""
        self.confusion = ranks.sum([self.confusion])[0]
        self.is_finite = all(ranks.all_of(self.is_finite))

    def found(self, thresholds: Mapping[str, float] | None) -> OfTask:
        assert self.task.threshold is not None
        no, yes = self.confusion.sum(1).tolist()
        values = {}
        for name, metric in self.metrics.items():
            number, reason = metrics.NAN, _undefined(name, type(metric).__name__, no, yes)
            if self.is_finite and not reason:
                number, reason = metrics.compute(self.task, name, metric)
            values[name] = number, reason
        return OfTask(self.task.threshold, False, values, self.confusion.tolist(), self.is_finite)


@dataclass
class Judged:
    """The result of an evaluation for all binary tasks.

    Attributes:
        values: the values of every task and over all tasks.
        confusion: the confusion matrix of each task, see `OfTask`.
        thresholds: the threshold of each task.
        undefined: which values the labels do not allow, and why.
    """

    values: dict[str, float]
    confusion: dict[str, list[list[int]]]
    thresholds: dict[str, float]
    undefined: dict[str, str]


def judge(totals: Sequence[BinaryTotal], thresholds: Mapping[str, float] | None) -> Judged:
    """Evaluates all binary tasks.

    Args:
        totals: what the batches gave, of all ranks.
        thresholds: of the tasks that have none of their own, from earlier validation data. None: they are chosen on
            these very data, and are among the values.
    """
    judged = Judged({}, {}, {}, {})
    found = {total.task.name: total.found(thresholds) for total in totals}
    for task, own in found.items():
        if own.was_chosen:
            judged.values[task_value(task, THRESHOLD)] = own.threshold
        judged.values |= {task_value(task, name): number for name, (number, _) in own.values.items()}
        judged.undefined |= {task_value(task, name): reason for name, (_, reason) in own.values.items() if reason}
        judged.confusion[task], judged.thresholds[task] = own.confusion, own.threshold
    over_all = _over_all(list(found.values()))
    if not all(own.is_finite for own in found.values()):  # a mean over the other tasks would hide it
        over_all = dict.fromkeys(over_all, float("nan"))
    else:
        judged.undefined |= {name: UNDEFINED_OVER_ALL[name] for name, number in over_all.items() if number != number}
    judged.values |= over_all
    return judged


def names_over_all(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The names of the values over all binary tasks, for these tasks."""
    binary = [task for task in tasks if task.kind == "binary"]
    return ((MEAN_F1,) if binary else ()) + (OF_SAMPLES if any(not task.dense for task in binary) else ())


def best_threshold(probabilities: Array, labels: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1, where what lies above it is yes; of several the nearest to 0.5.

    probabilities, labels: [N]. Tried are 0.5 and the middle between every two neighbouring probabilities, 0 among them.
    """
    if not labels.any() or not np.isfinite(probabilities).all():
        return 0.5
    edges = np.unique(np.append(probabilities, 0.0))
    tried = np.append((edges[1:] + edges[:-1]) / 2, 0.5)
    called = len(labels) - np.searchsorted(np.sort(probabilities), tried, side="right")
    hits = labels.sum() - np.searchsorted(np.sort(probabilities[labels]), tried, side="right")
    f1 = 2 * hits / (called + labels.sum())
    best = tried[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def _values(
    task: Task, probabilities: Array, decided: NDArray[np.bool_], labels: NDArray[np.bool_]
) -> dict[str, tuple[float, str]]:
    """Each metric's value; where the labels allow none NaN, and why."""
    finite = bool(np.isfinite(probabilities).all())
    values = {}
    for name, metric in task.metrics.items():
        reason = _undefined(name, type(metric).__name__, int((~labels).sum()), int(labels.sum()))
        number = metrics.NAN
        if finite and not reason:
            seen = torch.from_numpy(probabilities) if _is_curve(metric) else torch.from_numpy(decided).long()
            fresh = metric.clone()
            metrics.update(task, name, fresh, seen, torch.from_numpy(labels).long())
            number, reason = metrics.compute(task, name, fresh)
        values[name] = number, reason
    return values


def _is_curve(metric: "torchmetrics.Metric") -> bool:
    """True if a metric sees probabilities."""
    from torchmetrics.classification import BinaryPrecisionRecallCurve

    return isinstance(metric, BinaryPrecisionRecallCurve)


def _undefined(name: str, kind: str, no: int, yes: int) -> str:
    """Why the labels, so many of no and yes, allow no value of a metric where torchmetrics gives 0; else ""."""
    if not no + yes:
        return metrics.NO_LABELS
    if not yes and {name, kind} & UNDEFINED_WITHOUT_YES:
        return f"none of {no:,} labels is yes"
    if not no and {name, kind} & UNDEFINED_WITHOUT_NO:
        return f"none of {yes:,} labels is no"
    return ""


def _confusion(decided: NDArray[np.bool_], labels: NDArray[np.bool_]) -> list[list[int]]:
    """[2, 2]: rows are the truth, columns the decision, no before yes."""
    found: list[list[int]] = np.bincount(2 * labels + decided, minlength=4).reshape(2, 2).tolist()
    return found


def _over_all(found: Sequence[OfTask]) -> dict[str, float]:
    """The values over all binary tasks; none where there is no such task.

    mean_f1 is the mean of the tasks' F1, where they have one. The others are over the samples that have a label of
    every task that is not dense. exact_match is the share of them whose decisions are all right. hamming_score is the
    mean of |Y ∩ Ŷ| / |Y ∪ Ŷ| over the sets of tasks that are yes in truth and by decision; 1 where both are empty
    (Godbole and Sarawagi, PAKDD 2004).
    """
    if not found:
        return {}
    f1 = [number for own in found if (number := own.values.get("f1", (float("nan"), ""))[0]) == number]
    values = {MEAN_F1: sum(f1) / len(f1) if f1 else float("nan")}
    decisions = [own.decided for own in found if own.decided is not None]
    if not decisions:
        return values
    labels = np.array([own.truth for own in found if own.truth is not None])
    complete = ~np.isnan(labels).any(0)
    decided, truth = np.array(decisions)[:, complete], labels[:, complete] > 0
    both, either = (decided & truth).sum(0), (decided | truth).sum(0)
    scores = np.divide(both, either, out=np.ones(len(both)), where=either > 0)
    some = bool(complete.any())
    return {
        **values,
        EXACT_MATCH: float((decided == truth).all(0).mean()) if some else float("nan"),
        HAMMING_SCORE: float(scores.mean()) if some else float("nan"),
    }
