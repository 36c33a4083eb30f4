"""The constant output of tasks with a loss of the user's own."""

import pytest
import torch
import torch.nn.functional as F

from mtlcluster import Task
from mtlcluster.training import constant_output
from mtlcluster.training.constant_output import NoConstant, constant_loss, training_labels

CPU = torch.device("cpu")
NUMBERS = 100 + 30 * torch.randn(500, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(60) % 4 % 3
WEIGHTS = torch.tensor([1.0, 2.0, 5.0])


def fitted(loss, labels, shape, batches=1):
    task = Task("a", loss, "regression")
    kept = training_labels(task, batches)
    for part in labels.tensor_split(batches):
        kept.add(part)
    output = kept.best_output(shape, CPU)
    return output, constant_loss(task, output, labels) / len(labels)


@pytest.mark.parametrize("batches", [1, 7])
def test_a_copy_of_a_built_in_loss_has_its_closed_form(batches):
    output, _ = fitted(lambda out, t: F.mse_loss(out.flatten(), t), NUMBERS, [1], batches)
    assert output.item() == pytest.approx(NUMBERS.mean().item(), rel=1e-6)
    output, _ = fitted(F.cross_entropy, CLASSES, [3], batches)
    assert torch.allclose(output.softmax(0), torch.tensor([0.5, 0.25, 0.25]), atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "labels", "shape", "expected"),
    [
        (lambda out, t: F.l1_loss(out.flatten(), t), NUMBERS, [1], (NUMBERS - NUMBERS.median()).abs().mean()),
        # A tensor inside the loss is float32: it can't be computed in float64.
        (
            lambda out, t: F.cross_entropy(out, t, WEIGHTS),
            CLASSES,
            [3],
            (w := torch.tensor([0.5, 0.5, 1.25]) / 2.25) @ -w.log(),
        ),
    ],
)
def test_other_losses(loss, labels, shape, expected):
    assert fitted(loss, labels, shape)[1] == pytest.approx(float(expected), rel=1e-4)


def test_a_loss_that_fails_or_ignores_the_output_has_no_constant_output():
    with pytest.raises(NoConstant, match="ZeroDivisionError: division by zero"):
        fitted(lambda out, t: 1 / 0, NUMBERS, [1])
    with pytest.raises(NoConstant, match="does not require grad"):
        fitted(lambda out, t: torch.tensor(1.0), NUMBERS, [1])
    with pytest.raises(NoConstant, match="its loss is nan at the first point"):
        fitted(lambda out, t: (out * float("nan")).mean(), NUMBERS, [1])


def test_of_many_labels_each_batch_keeps_an_even_share(monkeypatch):
    monkeypatch.setattr(constant_output, "MOST", 100)
    kept = training_labels(Task("a", F.l1_loss, "regression"), batches=10)
    for _ in range(10):
        kept.add(torch.arange(1000.0))
    assert [len(part) for part in kept.state()] == [10] * 10
    assert kept.state()[0].mean() == pytest.approx(499.5, rel=0.01)
