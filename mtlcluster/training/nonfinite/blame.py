"""Of a step that is not finite: whose loss or gradient it is."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtlcluster.training.gradients.backward import Updater
from mtlcluster.training.gradients.batch import prepare
from mtlcluster.training.gradients.forward import Seen


def has_finite_gradient(
    update: Updater, batches: Sequence[Any], task: int, scale: float = 1.0, shares: Tensor | None = None
) -> bool:
    """Whether the gradient of a task's own loss is finite in all parameters, over the step of `batches`."""
    step = update.forwards.step(list(batches), [task], scale, shares)
    for number in range(len(step.batches) if step else 0):
        assert step is not None
        losses = update.forwards.losses(step, number, Seen())
        found = torch.autograd.grad(losses[0] * scale, [*update.shared, *update.heads[task]], allow_unused=True)
        if not all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None):
            return False
    return True


def guilty_samples(update: Updater, batches: Sequence[Any], task: int) -> list[list[int]]:
    """In each batch the samples whose own loss of a task is not finite."""
    forwards, guilty = update.forwards, []
    judged, name = update.tasks[task], update.tasks[task].name
    for raw in batches:
        batch = prepare(raw, [judged], forwards.device)
        with torch.no_grad(), forwards.autocast():
            outputs = update.model(batch.inputs, [name])[name].float()
        targets, own = batch.targets[name], []
        for i in range(len(outputs)):
            positions = judged.labelled(targets[i : i + 1])
            if positions is None or len(positions):
                loss = judged.loss(*judged.seen(outputs[i : i + 1], targets[i : i + 1], positions))
                own += [] if loss.isfinite() else [i]
        guilty.append(own)
    return guilty
