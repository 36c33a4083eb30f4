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
    loss, name = update.tasks[task].loss, update.tasks[task].name
    for raw in batches:
        batch = prepare(raw, [update.tasks[task]], forwards.device)
        with torch.no_grad(), forwards.autocast():
            outputs = update.model(batch.inputs, [name])[name].float()
        labelled = range(len(outputs)) if batch.labelled[0] is None else batch.labelled[0].tolist()
        each = [loss(outputs[i : i + 1], batch.targets[name][i : i + 1]) for i in labelled]
        guilty.append([i for i, one in zip(labelled, each, strict=True) if not one.isfinite()])
    return guilty
