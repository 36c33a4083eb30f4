"""The built-in tasks' metrics, for many weightings of the samples at once: what a bootstrap needs.

A weighting says how often each sample counts. The values equal those of torchmetrics on samples repeated so often.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mtlcluster.sweep.predictions import TaskPredictions, sums

Array = NDArray[np.float64]

# By the kind of the task: the metrics that its sums tell.
OF_SUMS: dict[str, dict[str, Callable[[Array], Array]]] = {}


def weighted_metric(task: TaskPredictions, metric: str, weights: Array) -> Array | None:
    """A metric of one task on weighted samples.

    Args:
        task: The predictions [N].
        metric: The name of a metric that the built-in tasks have.
        weights: How often each sample counts [B, N].

    Returns:
        The value for each weighting [B]; NaN where the labels allow none. None: it can't be computed for this task.
    """
    if metric in CURVES and task.kind == "binary" and task.outputs is not None and task.targets is not None:
        known = ~np.isnan(task.targets)
        return CURVES[metric](task.outputs[known].astype(float), task.targets[known] > 0, weights[:, known])
    of_samples: NDArray[np.floating] | None = task.sums
    if task.outputs is not None and task.targets is not None:
        of_samples = sums(task.kind, task.targets, task.outputs, task.threshold)
    compute = OF_SUMS.get(task.kind, {}).get(metric)
    if compute is None or of_samples is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        return compute(weights @ of_samples.astype(np.float64))


def _of_binary(compute: Callable[[Array, Array, Array, Array], Array]) -> Callable[[Array], Array]:
    """A metric of [B, 4]: true positives, false positives, false negatives, true negatives."""
    return lambda sums: compute(*sums.T)


def _share(part: Array, whole: Array) -> Array:
    """part / whole; 0 where both are 0, as in torchmetrics."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(hits: Array, false: Array, missed: Array) -> Array:
    return _share(2 * hits, 2 * hits + false + missed)


def _if(defined: Array | NDArray[np.bool_], value: Array) -> Array:
    return np.where(defined, value, np.nan)


def _both_f1(tp: Array, fp: Array, fn: Array, tn: Array) -> tuple[Array, Array]:
    """The F1 of yes and of no."""
    return _f1(tp, fp, fn), _f1(tn, fn, fp)


OF_SUMS["binary"] = {
    "accuracy": _of_binary(lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn)),
    "precision": _of_binary(lambda tp, fp, fn, tn: _if(tp + fp + fn + tn > 0, _share(tp, tp + fp))),
    "recall": _of_binary(lambda tp, fp, fn, tn: _if(tp + fn > 0, _share(tp, tp + fn))),
    "f1": _of_binary(lambda tp, fp, fn, tn: _if(tp + fn > 0, _f1(tp, fp, fn))),
    "f1_macro": _of_binary(
        lambda tp, fp, fn, tn: _if((tp + fn > 0) & (tn + fp > 0), sum(_both_f1(tp, fp, fn, tn)) / 2)  # type: ignore[arg-type]
    ),
    "f1_weighted": _of_binary(
        lambda tp, fp, fn, tn: (_f1(tp, fp, fn) * (tp + fn) + _f1(tn, fn, fp) * (tn + fp)) / (tp + fp + fn + tn)
    ),
}


def _accuracy(sums: Array) -> Array:
    hits, _, labels = np.split(sums, 3, axis=1)
    return np.asarray(hits.sum(1) / labels.sum(1))


def _macro_f1(sums: Array) -> Array:
    """The mean over the classes that have a label or a decision."""
    hits, decisions, labels = np.split(sums, 3, axis=1)
    seen = decisions + labels > 0
    return np.asarray(_share(2 * hits, decisions + labels).sum(1) / seen.sum(1))


OF_SUMS["classification"] = {"accuracy": _accuracy, "f1": _macro_f1}


def _r2(sums: Array) -> Array:
    """1 − Σe² / Σ(t − t̄)²; NaN where fewer than two labels differ."""
    count, _, squared_errors, labels, squared_labels = sums.T
    spread = squared_labels - labels**2 / count
    return _if((count > 1) & (spread > 1e-12 * squared_labels), 1 - squared_errors / spread)


OF_SUMS["regression"] = {"mae": lambda sums: np.asarray(sums[:, 1] / sums[:, 0]), "r2": _r2}


def _roc_auc(probabilities: Array, yes: NDArray[np.bool_], weights: Array) -> Array:
    """The area under the ROC curve: the share of pairs in the right order, ties as a half (Hanley and McNeil 1982)."""
    _, place = np.unique(probabilities, return_inverse=True)
    positive, negative = _by_place(weights * yes, place), _by_place(weights * ~yes, place)
    below = negative.cumsum(1) - negative
    pairs = positive.sum(1) * negative.sum(1)
    return _if(pairs > 0, (positive * (below + negative / 2)).sum(1) / np.where(pairs > 0, pairs, 1))


def _average_precision(probabilities: Array, yes: NDArray[np.bool_], weights: Array) -> Array:
    """Σ (R_k − R_(k−1))·P_k over the thresholds, from the highest down."""
    _, place = np.unique(-probabilities, return_inverse=True)
    positive, every = _by_place(weights * yes, place), _by_place(weights, place)
    precision = _share(positive.cumsum(1), every.cumsum(1))
    total = positive.sum(1)
    return _if(total > 0, (positive * precision).sum(1) / np.where(total > 0, total, 1))


def _by_place(weights: Array, place: NDArray[np.intp]) -> Array:
    """The sums of the weights [B, N] of the samples at the same place [N]: [B, P]."""
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    summed: Array = np.add.reduceat(weights[:, order], starts, axis=1) if len(order) else np.zeros((len(weights), 0))
    return summed


CURVES: dict[str, Callable[[Array, NDArray[np.bool_], Array], Array]] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
}
