from collections.abc import Mapping, Sequence

import torch

from mtlcluster.methods.base import Context, Schedule
from mtlcluster.methods.options import Count, NotNegative


class DynamicStopAndGo(Schedule):
    """Stops a task that no longer improves, and starts it again once it gets worse (dynamic stop and go).

    After each validation, a task stops if its score improved by less than `tolerance` over its best in `patience`
    validations in a row. While it is stopped, it trains only at every `every`-th step, until its score is worse than
    its best by `worse`. Tolerance and worse are relative to |best|, absolute if best = 0. The best may still improve
    while the task is stopped. A step at which all tasks have stopped and none is due trains nothing.

    Args:
        score: "loss" or the name of a metric that all tasks have.
        tolerance: the smallest improvement that counts.
        patience: the number of validations without such an improvement until a task stops.
        worse: the worsening of the score, from its best, at which a task starts again.
        every: the number of steps between two steps of a stopped task.
    """

    paper = "Lu et al., 12-in-1: Multi-Task Vision and Language Representation Learning, CVPR 2020"
    best: torch.Tensor
    misses: torch.Tensor
    stopped: torch.Tensor

    def __init__(
        self,
        context: Context,
        *,
        score: str = "loss",
        tolerance: NotNegative = 0.001,
        patience: Count = 2,
        worse: NotNegative = 0.005,
        every: Count = 4,
    ) -> None:
        super().__init__(context)
        self.score, self.tolerance, self.patience, self.worse, self.every = score, tolerance, patience, worse, every
        self.signs = [1.0 if task.direction(score) == "max" else -1.0 for task in context.tasks]
        tasks = len(context.tasks)
        self.register_buffer("best", torch.full((tasks,), float("nan"), dtype=torch.float64))
        self.register_buffer("misses", torch.zeros(tasks, dtype=torch.int64))
        self.register_buffer("stopped", torch.zeros(tasks, dtype=torch.bool))

    def active(self, step: int) -> Sequence[int]:
        due = step % self.every == 0
        return [i for i, stopped in enumerate(self.stopped.tolist()) if due or not stopped]

    def observe_validation(self, values: Mapping[str, float]) -> None:
        for i, task in enumerate(self.context.tasks):
            score, best = values[f"{task.name}/{self.score}"], float(self.best[i])
            if score != score:  # no sample of the task had a label
                continue
            if best != best:  # the first validation
                self.best[i] = score
                continue
            gain = self.signs[i] * (score - best) / (abs(best) or 1.0)
            if self.stopped[i]:
                self.stopped[i] = gain > -self.worse
                self.misses[i] *= self.stopped[i]
            else:
                self.misses[i] = 0 if gain >= self.tolerance else self.misses[i] + 1
                self.stopped[i] = self.misses[i] >= self.patience
            if gain > 0:
                self.best[i] = score
