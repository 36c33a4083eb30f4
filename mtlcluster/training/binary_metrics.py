"""What binary tasks are judged by, once per evaluation, from the probabilities and labels of all its samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlcluster.problem import Task
from mtlcluster.training import metrics
from mtlcluster.training.distributed import Ranks

Array = NDArray[np.float64]
OVERALL = ("mean_f1", "exact_match", "hamming_score")
# A quotient of nothing by nothing: no number, rather than the 0 of a bad model.
# By the name of a metric, as Task.binary has it, or that of its class.
UNDEFINED_WITHOUT_YES = {
    "recall", "f1", "f1_macro", "roc_auc", "average_precision",
    "BinaryRecall", "BinaryF1Score", "BinaryFBetaScore", "BinaryAUROC", "BinaryAveragePrecision",
}  # fmt: skip
UNDEFINED_WITHOUT_NO = {"f1_macro", "roc_auc", "BinaryAUROC", "BinarySpecificity"}
UNDEFINED_OVER_ALL = {
    "mean_f1": "no task has an f1",
    "exact_match": "no sample has a label of every task",
    "hamming_score": "no sample has a label of every task",
}


class Gathered:
    """The probabilities of yes and the labels of one task, left on their device until all are there."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.parts: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, targets: Tensor, positions: Tensor | None) -> None:
        """Of one batch. positions: see `Task.labelled`."""
        labels = targets.double()
        if positions is not None:
            labels = torch.full_like(labels, float("nan")).index_copy(0, positions, labels[positions])
        self.parts.append((self.task.decode(outputs), labels))

    def gather(self, ranks: Ranks) -> None:
        """Adds what the other ranks have."""
        own = [(probabilities.cpu(), labels.cpu()) for probabilities, labels in self.parts]
        self.parts = [part for parts in ranks.all_of(own) for part in parts]

    def arrays(self) -> tuple[Array, Array]:
        """Probabilities [N] and labels [N], NaN where a sample has none."""
        if not self.parts:
            return np.empty(0), np.empty(0)
        probabilities, labels = zip(*self.parts, strict=True)
        return torch.cat(probabilities).double().cpu().numpy(), torch.cat(labels).flatten().cpu().numpy()


@dataclass
class Judged:
    """The values of every binary task and over all of them, the tasks' confusion matrices and thresholds, and what is
    undefined because of the labels, and why.
    """

    values: dict[str, float]
    confusion: dict[str, list[list[int]]]
    thresholds: dict[str, float]
    undefined: dict[str, str]


def judge(gathered: Sequence[Gathered], thresholds: Mapping[str, float] | None) -> Judged:
    """thresholds: of earlier validation data. None: where the task has none of its own it is chosen on these very data,
    and is one of the values.
    """
    values: dict[str, float] = {}
    confusion: dict[str, list[list[int]]] = {}
    used: dict[str, float] = {}
    undefined: dict[str, str] = {}
    decisions, labels = [], []
    finite = True
    for task, (probabilities, truth) in ((g.task, g.arrays()) for g in gathered):
        known = ~np.isnan(truth)
        threshold = task.threshold
        if threshold is None and thresholds is not None:
            threshold = thresholds[task.name]
        elif threshold is None:
            threshold = values[f"{task.name}/threshold"] = best_threshold(probabilities[known], truth[known] > 0)
        used[task.name] = threshold
        decided = probabilities > threshold
        for name, (number, reason) in _values(task, probabilities[known], decided[known], truth[known] > 0).items():
            values[f"{task.name}/{name}"] = number
            if reason:
                undefined[f"{task.name}/{name}"] = reason
        confusion[task.name] = _confusion(decided[known], truth[known] > 0)
        decisions.append(decided)
        labels.append(truth)
        finite &= bool(np.isfinite(probabilities[known]).all())
    over_all = _over_all(gathered, values, np.array(decisions), np.array(labels))
    if not finite:  # a mean over the other tasks would hide it
        over_all = dict.fromkeys(over_all, float("nan"))
    else:
        undefined |= {name: UNDEFINED_OVER_ALL[name] for name, number in over_all.items() if number != number}
    return Judged({**values, **over_all}, confusion, used, undefined)


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
    if not task.metrics:
        return {}
    from torchmetrics.classification import BinaryPrecisionRecallCurve

    finite = bool(np.isfinite(probabilities).all())
    values = {}
    for name, metric in task.metrics.items():
        reason = _undefined(name, type(metric).__name__, labels)
        number = metrics.NAN
        if finite and not reason:
            of_curve = isinstance(metric, BinaryPrecisionRecallCurve)
            seen = torch.from_numpy(probabilities) if of_curve else torch.from_numpy(decided).long()
            fresh = metric.clone()
            metrics.update(task, name, fresh, seen, torch.from_numpy(labels).long())
            number, reason = metrics.compute(task, name, fresh)
        values[name] = number, reason
    return values


def _undefined(name: str, kind: str, labels: NDArray[np.bool_]) -> str:
    """Why the labels allow no value of a metric where torchmetrics gives 0."""
    if not len(labels):
        return metrics.NO_LABELS
    if not labels.any() and {name, kind} & UNDEFINED_WITHOUT_YES:
        return f"none of {len(labels):,} labels is yes"
    if labels.all() and {name, kind} & UNDEFINED_WITHOUT_NO:
        return f"none of {len(labels):,} labels is no"
    return ""


def _confusion(decided: NDArray[np.bool_], labels: NDArray[np.bool_]) -> list[list[int]]:
    """[2, 2]: rows are the truth, columns the decision, no before yes."""
    found: list[list[int]] = np.bincount(2 * labels + decided, minlength=4).reshape(2, 2).tolist()
    return found


def _over_all(
    gathered: Sequence[Gathered], values: Mapping[str, float], decisions: NDArray[np.bool_], labels: Array
) -> dict[str, float]:
    """Over the binary tasks, decisions [T, N] and labels [T, N]; nothing where there is no such task.

    mean_f1: the mean of the tasks' F1, where they have one. Over the samples with all labels: exact_match, the share
    whose decisions are all right; hamming_score, the mean of |Y ∩ Ŷ| / |Y ∪ Ŷ| over the sets of tasks that are yes in
    truth and by decision, 1 where both are empty (Godbole and Sarawagi, PAKDD 2004).
    """
    if not gathered:
        return {}
    f1 = [number for g in gathered if (number := values.get(f"{g.task.name}/f1", float("nan"))) == number]
    complete = ~np.isnan(labels).any(0)
    decided, truth = decisions[:, complete], labels[:, complete] > 0
    both, either = (decided & truth).sum(0), (decided | truth).sum(0)
    scores = np.divide(both, either, out=np.ones(len(both)), where=either > 0)
    some = bool(complete.any())
    return {
        "mean_f1": sum(f1) / len(f1) if f1 else float("nan"),
        "exact_match": float((decided == truth).all(0).mean()) if some else float("nan"),
        "hamming_score": float(scores.mean()) if some else float("nan"),
    }
