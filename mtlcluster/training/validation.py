"""Losses and metrics of the tasks on validation or test data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.data import map_tensors
from mtlcluster.training.update import Autocast


@torch.no_grad()
def evaluate(
    model: MultiTaskModel,
    tasks: Sequence[Task],
    batches: Iterable[Any],
    autocast: Autocast,
    device: torch.device,
    between: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """`<task>/loss` and `<task>/<metric>` of every task, and `mean_loss`, the plain mean of the losses.

    Losses are means over the labelled samples; a task without any has NaN, and is left out of the mean. `between` is
    called after every batch and may raise to break off.
    """
    names = [task.name for task in tasks]
    sums = {name: torch.zeros((), dtype=torch.float64, device=device) for name in names}
    counts = dict.fromkeys(names, 0)
    metrics = {(task.name, name): metric.clone().to(device) for task in tasks for name, metric in task.metrics.items()}
    training = model.training
    model.eval()
    try:
        for inputs, targets in batches:
            with autocast():
                outputs = model(map_tensors(inputs, lambda t: t.to(device, non_blocking=True)), names)
            for task in tasks:
                output, target = outputs[task.name].float(), targets[task.name]
                if (positions := task.labelled(target)) is not None:
                    output, target = output[positions.to(device)], target[positions]
                if not len(target):
                    continue
                target = target.to(device)
                sums[task.name] += task.loss(output, target).double() * len(target)
                counts[task.name] += len(target)
                decoded = task.decode(output)
                for name in task.metrics:
                    metrics[task.name, name].update(decoded, target)
            between()
    finally:
        model.train(training)
    values = {f"{name}/loss": float(sums[name]) / counts[name] if counts[name] else float("nan") for name in names}
    present = [values[f"{name}/loss"] for name in names if counts[name]]
    for (task_name, name), metric in metrics.items():
        values[f"{task_name}/{name}"] = float(metric.compute()) if counts[task_name] else float("nan")
    return {**values, "mean_loss": sum(present) / len(present) if present else float("nan")}
