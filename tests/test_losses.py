"""The best constant output of the built-in tasks, in closed form."""

import math

import pytest
import torch

from mtlcluster import Task

NAN = float("nan")


def constant(task, *batches):
    """The best constant output of labels that come in batches."""
    return task.loss.best_output(sum(task.loss.sums(task.labels(targets)) for targets in batches))


def loss(task, output, targets):
    labels = task.labels(targets)
    return float(task.loss(output.expand(len(labels), *output.shape), labels))


@pytest.mark.parametrize(
    ("task", "targets", "expected"),
    [
        (Task.binary("a"), [0, 0, 0, 1], -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
        # The weights make the two classes equal: (3 × 1 + 1 × 3) / 4 = 1.5 times the loss of probability 1/2.
        (Task.binary("a", class_weights=(1, 3)), [0, 0, 0, 1], 1.5 * math.log(2)),
        (Task.binary("a", missing=-1), [-1, 0, -1, 1], math.log(2)),
        (Task.classification("a", 3), [0, 0, 1, 2], 0.5 * math.log(2) + 0.5 * math.log(4)),
        (Task.classification("a", 2, class_weights=(2, 6)), [0, 0, 0, 1], 3 * math.log(2)),
        (Task.classification("a", 2, missing=-1), [0, 1, -1, -1], math.log(2)),
        (Task.regression("a"), [1.0, 2.0, 6.0], 14 / 3),
        (Task.regression("a", missing=NAN), [1.0, NAN, 3.0], 1),
        (Task.regression("a"), [[1.0, 10.0], [3.0, 30.0]], (1 + 100) / 2),  # a mean for each column
    ],
)
def test_hand_worked_values(task, targets, expected):
    targets = torch.tensor(targets)
    assert loss(task, constant(task, targets[:2], targets[2:]), targets) == pytest.approx(expected, rel=1e-12)


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 4, (6, 5, 3), generator=generator)


@pytest.mark.parametrize(
    ("task", "targets", "width"),
    [
        (Task.binary("a", class_weights=(0.3, 2)), torch.rand(50), 2),  # soft labels
        (Task.binary("a", dense=True, missing=-1), images(1).clamp(max=2) - 1, 1),
        (Task.classification("a", 4, class_weights=(1, 2, 0.5, 3)), torch.randint(0, 4, (60,)), 4),
        (Task.classification("a", 4, dense=True, missing=0), images(2), 4),
        (Task.regression("a"), 1e3 + torch.randn(40, 3), 3),
        (Task.regression("a", dense=True, missing=0), images(3)[:, None].float(), 1),
    ],
)
def test_no_other_output_found_by_optimization_has_a_smaller_loss(task, targets, width):
    labels = task.labels(targets)
    point = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([point], max_iter=500, tolerance_change=1e-15, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        value = task.loss(point.expand(len(labels), width), labels)
        value.backward()
        return value

    optimizer.step(step)
    least = loss(task, point.detach(), targets)
    assert loss(task, constant(task, targets), targets) == pytest.approx(least, rel=1e-6)
