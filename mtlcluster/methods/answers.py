"""Asks methods, and checks what they answer: a wrong answer of one's own method would otherwise train something else.

T is the number of the run's tasks, A ≤ T the number of tasks that are active at a step.
"""

import operator
from typing import Any, NoReturn, TypeGuard

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Gradient, Schedule, Slot, Weighting


def active_tasks(schedule: Schedule, step: int) -> list[int]:
    """The positions of the tasks that train at a step.

    Raises:
        ValueError: they are not positions of tasks, each once and in ascending order.
    """
    answer: Any = schedule.active(step)
    count = len(schedule.context.tasks)
    try:
        found = [operator.index(position) for position in answer]
    except TypeError:
        found = [-1]
    if found != sorted(set(found) & set(range(count))):
        _refuse(schedule, "active", f"ascending positions of tasks, from 0 to {count - 1}", answer)
    return found


def sample_shares(schedule: Schedule, step: int) -> Tensor | None:
    """The share [T] of the samples that are drawn for each task; None if every sample counts for every task.

    Raises:
        ValueError: they are no shares, or their sum is not 1.
    """
    answer: Any = schedule.shares(step)
    if answer is None:
        return None
    count = len(schedule.context.tasks)
    if not _has_shape(answer, count) or bool((answer < 0).any()) or abs(float(answer.sum()) - 1) > 1e-4:
        _refuse(schedule, "shares", f"None or a tensor [{count}] of shares whose sum is 1", answer)
    return answer


def total_loss(weighting: Weighting, losses: Tensor, active: Active) -> Tensor:
    """F of the losses [A], with its graph.

    Raises:
        ValueError: it is no scalar, or not computed from the losses.
    """
    answer: Any = weighting(losses, active)
    if not isinstance(answer, Tensor) or answer.numel() != 1 or not answer.requires_grad:
        _refuse(weighting, "forward", "a scalar tensor, computed from the losses", answer)
    return answer


def refuse_not_linear(weighting: Weighting, weights: Tensor) -> None:
    """Raises ValueError if the weights [A] show that F is not linear, though the class says so.

    Args:
        weighting: the weighting.
        weights: what it gives when no loss is known: they are all NaN, unless `linear` is false.
    """
    if weighting.linear and bool(weights.isnan().any()):
        name = type(weighting).__name__
        raise ValueError(f"{name}.forward is not linear in the losses: say `linear = False` in the class")


def gradient_weights(gradient: Gradient, gramian: Tensor, active: Active) -> Tensor:
    """The weights a_i [A] of the gradients in the direction.

    Raises:
        ValueError: they are not [A].
    """
    answer: Any = gradient.weights(gramian, active)
    if not _has_shape(answer, len(gramian)):
        _refuse(gradient, "weights", f"a tensor [{len(gramian)}], a weight for each active task", answer)
    return answer


def direction(gradient: Gradient, jacobian: Tensor, active: Active) -> Tensor:
    """The direction [n] that the gradient method chooses.

    Raises:
        ValueError: it is not [n].
    """
    size = jacobian.shape[1]
    answer: Any = gradient.direction(jacobian, active)
    if not _has_shape(answer, size):
        _refuse(gradient, "direction", f"a tensor [{size}], a value for each shared parameter", answer)
    return answer


def _has_shape(answer: Any, size: int) -> TypeGuard[Tensor]:
    return isinstance(answer, Tensor) and answer.shape == (size,) and answer.dtype not in (torch.bool, torch.complex64)


def _refuse(method: Slot, function: str, wanted: str, answer: Any) -> NoReturn:
    if isinstance(answer, Tensor):
        found = f"a tensor {list(answer.shape)}" + (f" of {answer.tolist()}" if answer.numel() <= 8 else "")
    else:
        found = repr(answer)
    raise ValueError(f"{type(method).__name__}.{function} should return {wanted}; found {found[:200]}")
