"""The toy problem of CAGrad and Nash-MTL: two parameters (x, y) and two losses, where the plain sum gets stuck.

Above y = 0 each task has a narrow valley that crosses the slopes of the other task. Below it each task has a bowl; the
minima of the bowls, (7, −8) and (−7, −8), conflict. A task's head has no parameters: it gives the loss itself, and the
point (x, y). The data are zeros; they only count the steps.

Sources: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, appendix; Navon et al.,
Multi-Task Learning as a Bargaining Game, ICML 2022, appendix, where the first loss is a tenth as large.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mtlcluster import MultiTaskModel, Problem, Task, TensorData

TASKS = ("task1", "task2")
LOSS, X, Y = range(3)  # the columns of a head's output
FLOOR = 5e-6  # the least distance from the middle of a valley: the loss is the distance's logarithm


@dataclass
class Steps:
    """Options of the data."""

    # The point (x, y) is recorded at each validation.
    per_epoch: int = 200  # steps, with batch_size 1


@dataclass
class Plane:
    """Options of the model."""

    start: list[float] = field(default_factory=lambda: [0.0, 0.0])
    scale: list[float] = field(default_factory=lambda: [1.0, 1.0])  # of the two losses


def build(data: Steps, model: Plane) -> Problem:
    """Makes the problem: the trunk is the point (x, y), the heads are the losses."""
    heads = {name: Loss(task, model.scale[task]) for task, name in enumerate(TASKS)}
    metrics: dict[str, dict[str, Metric]] = {"task1": {"x": Column(X), "y": Column(Y)}, "task2": {}}
    return Problem(
        model=MultiTaskModel(Position(model.start), heads),
        tasks=[Task(name, mean_loss, "regression", metrics[name]) for name in TASKS],
        train=rows(data.per_epoch),
        validation=rows(1),
    )


def loss(task: int, x: float, y: float) -> tuple[float, float, float]:
    """The loss of a task at (x, y), before scaling.

    The derivatives are computed by hand, since autograd would take half of a step's time.

    Args:
        task: 0 or 1.
        x: The first parameter.
        y: The second parameter.

    Returns:
        The loss, and its derivatives with respect to x and y.
    """
    bend = math.tanh(y)
    valley = 0.5 * (-x - 7) + bend if task == 0 else 0.5 * (-x + 3) - bend + 2
    above = math.log(max(abs(valley), FLOOR)) + 6
    steep = 1 / valley if abs(valley) >= FLOOR else 0.0
    above_x, above_y = -0.5 * steep, (1 - bend**2) * (steep if task == 0 else -steep)

    away = x - (7 if task == 0 else -7)
    below = (away**2 + 0.1 * (y + 8) ** 2) / 10 - 20
    below_x, below_y = away / 5, (y + 8) / 50

    side = math.tanh(y / 2)
    up, down = max(side, 0.0), max(-side, 0.0)
    # At y = 0 both `up` and `down` have a slope, as with clamp. With relu's slope of zero, a run that starts at (0, 0)
    # would never move.
    tilt = (1 - side**2) / 2
    up_y, down_y = tilt * (side >= 0), -tilt * (side <= 0)
    return (
        up * above + down * below,
        up * above_x + down * below_x,
        up_y * above + up * above_y + down_y * below + down * below_y,
    )


class Position(nn.Module):
    """The trunk: gives (x, y) for each sample, [N, 2]."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.tensor(start, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.position.expand(len(inputs), 2)


class Loss(nn.Module):
    """A head: takes points [N, 2], and gives loss, x and y, [N, 3]."""

    def __init__(self, task: int, scale: float) -> None:
        super().__init__()
        self.task, self.scale = task, scale

    def forward(self, positions: Tensor) -> Tensor:
        here = positions.detach()
        value, *slope = loss(self.task, *here[0].tolist())  # all samples are the same point
        losses = self.scale * (value + (positions - here) @ positions.new_tensor(slope))
        return torch.cat([losses[:, None], here], dim=1)


def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of the losses that a head gives, in its outputs [N, 3]."""
    return outputs[:, LOSS].mean()


class Column(Metric):
    """The mean of one column of a head's outputs, so that each validation records the point of the run."""

    higher_is_better = False  # it is neither, but a metric must say one
    full_state_update = False
    found: Tensor

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column
        self.add_state("found", default=torch.tensor(float("nan")))

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.found = outputs[:, self.column].mean()

    def compute(self) -> Tensor:
        return self.found


def rows(count: int) -> TensorData:
    """Data of `count` samples without any content."""
    nothing = torch.zeros(count, dtype=torch.long)
    return TensorData(nothing, dict.fromkeys(TASKS, nothing))
