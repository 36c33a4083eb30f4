"""The numpy metrics of the bootstrap equal torchmetrics on samples repeated as often as their weights say."""

import math

import numpy as np
import pytest
import torch

from mtlcluster import Task
from mtlcluster.collect.sample_metrics import weighted_metric
from mtlcluster.sweep.predictions import TaskPredictions, sums
from mtlcluster.training import metrics
from mtlcluster.training.binary_metrics import Gathered, judge

N, DRAWS = 60, 40
NUMBERS = np.random.default_rng(5)
WEIGHTS = NUMBERS.multinomial(N, np.full(N, 1 / N), size=DRAWS).astype(float)
WEIGHTS[0, :] = 0
WEIGHTS[0, :3] = 1  # few labels, few classes


def repeated(draw: int) -> torch.Tensor:
    return torch.from_numpy(np.repeat(np.arange(N), WEIGHTS[draw].astype(int)))


def same(ours: np.ndarray | None, theirs: list[float]) -> None:
    assert ours is not None
    assert ours.tolist() == pytest.approx(theirs, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    "metric", ["accuracy", "precision", "recall", "f1", "f1_macro", "f1_weighted", "roc_auc", "average_precision"]
)
def test_binary(metric):
    task = Task.binary("b", missing=-1, threshold=0.4)
    outputs = torch.from_numpy(NUMBERS.normal(size=N).round(1))  # with ties
    targets = torch.from_numpy(NUMBERS.integers(-1, 2, N))
    expected = []
    for draw in range(DRAWS):
        chosen, total = repeated(draw), Gathered(task)
        total.add(outputs[chosen], targets[chosen], task.labelled(targets[chosen]))
        expected.append(judge([total], None).values[f"b/{metric}"])
    kept = TaskPredictions("b", "binary", 0.4, np.where(targets < 0, np.nan, targets), task.decode(outputs).numpy())
    same(weighted_metric(kept, metric, WEIGHTS), expected)
    assert any(math.isfinite(number) for number in expected)


@pytest.mark.parametrize(
    ("task", "outputs", "targets"),
    [
        (Task.classification("t", 4), NUMBERS.normal(size=(N, 4)), NUMBERS.integers(0, 4, N)),
        (Task.regression("t"), NUMBERS.normal(size=N), NUMBERS.normal(size=N)),
    ],
)
def test_classification_and_regression(task, outputs, targets):
    kept = TaskPredictions("t", task.kind, None, targets.astype(float), outputs)
    for name, metric in task.metrics.items():
        expected = []
        for draw in range(DRAWS):
            chosen, fresh = repeated(draw), metric.clone()
            metrics.update(task, name, fresh, torch.from_numpy(outputs)[chosen], torch.from_numpy(targets)[chosen])
            expected.append(metrics.compute(task, name, fresh)[0])
        same(weighted_metric(kept, name, WEIGHTS), expected)


def test_sums_tell_the_same_as_outputs():
    targets, outputs = NUMBERS.integers(0, 3, N).astype(float), NUMBERS.normal(size=(N, 3))
    targets[::5] = np.nan
    whole = TaskPredictions("t", "classification", None, targets, outputs)
    summed = TaskPredictions("t", "classification", None, sums=sums("classification", targets, outputs, None))
    for name in ("accuracy", "f1"):
        first, second = (weighted_metric(kept, name, WEIGHTS) for kept in (whole, summed))
        assert np.array_equal(first, second, equal_nan=True)


def test_a_metric_that_is_not_built_in_has_no_value():
    kept = TaskPredictions("t", "regression", None, np.zeros(N), np.zeros(N))
    assert weighted_metric(kept, "spearman", WEIGHTS) is None
    assert weighted_metric(TaskPredictions("t", "ranking", None, np.zeros(N), np.zeros(N)), "mae", WEIGHTS) is None
    curve_of_sums = TaskPredictions("b", "binary", 0.5, sums=np.zeros((N, 4), np.float32))
    assert weighted_metric(curve_of_sums, "roc_auc", WEIGHTS) is None
