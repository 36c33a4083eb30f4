"""Finds the task and the samples that made a step non-finite."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtlcluster.training.gradients.backward import Backward
from mtlcluster.training.gradients.batch import prepare
from mtlcluster.training.gradients.forward import ForwardResult


def has_finite_gradient(
    backward: Backward, batches: Sequence[Any], task: int, scale: float = 1.0, shares: Tensor | None = None
) -> bool:
    """True if the gradient of one task's loss over a step is finite for all parameters."""
    parameters = [*backward.parts.shared, *backward.parts.heads[task]]
    data = backward.forwards.prepare(list(batches), [task], scale, shares)
    for number in range(len(data.batches) if data else 0):
        assert data is not None
        losses = backward.forwards.losses(data, number, ForwardResult())
        found = torch.autograd.grad(losses[0] * scale, parameters, allow_unused=True)
        if not all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None):
            return False
    return True


def guilty_samples(backward: Backward, batches: Sequence[Any], task: int) -> list[list[int]]:
    """For each batch the positions of the samples whose loss of a task is not finite."""
    forwards, guilty = backward.forwards, []
    judged, name = backward.tasks[task], backward.tasks[task].name
    for raw in batches:
        batch = prepare(raw, [judged], forwards.device)
        with torch.no_grad(), forwards.autocast():
            outputs = backward.model(batch.inputs, [name])[name].float()
        targets, own = batch.targets[name], []
        for i in range(len(outputs)):
            positions = judged.labelled(targets[i : i + 1])
            if positions is None or len(positions):
                loss = judged.loss(*judged.seen(outputs[i : i + 1], targets[i : i + 1], positions))
                own += [] if loss.isfinite() else [i]
        guilty.append(own)
    return guilty
