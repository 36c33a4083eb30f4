"""Losses and metrics of the tasks on validation or test data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtlcluster.config.run import Best
from mtlcluster.errors import nearest
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.binary import OVERALL, Gathered, judge
from mtlcluster.training.data import map_tensors
from mtlcluster.training.ranks import ALONE, Ranks
from mtlcluster.training.step import Autocast

AfterBatch = Callable[[dict[str, Tensor], dict[str, Tensor]], object]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    values: `<task>/loss` and `<task>/<metric>` of every task; `mean_loss`, the plain mean of the losses; with binary
    tasks `mean_f1`, `exact_match` and `hamming_score` (see training/binary.py), and `<task>/threshold` where it was
    chosen on these data. Losses are means over the labelled samples; a task without any has NaN, and is left out of the
    means. Of each binary task, confusion: counts [2, 2] (rows: truth, columns: decision; no before yes); thresholds: by
    which it was decided.
    """

    values: dict[str, float]
    confusion: dict[str, list[list[int]]]
    thresholds: dict[str, float]

    def series(self, data: str) -> dict[str, Any]:
        """All of it as in the history, names beginning with `data` ("validation" or "test")."""
        found: dict[str, Any] = {**self.values, **{f"{task}/confusion": c for task, c in self.confusion.items()}}
        return {f"{data}/{name}": value for name, value in found.items()}


@torch.no_grad()
def evaluate(
    model: MultiTaskModel,
    tasks: Sequence[Task],
    batches: Iterable[Any],
    autocast: Autocast,
    device: torch.device,
    thresholds: Mapping[str, float] | None = None,
    after_batch: AfterBatch = lambda outputs, targets: None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Evaluates the model on `batches` (of all ranks), in eval mode.

    thresholds: for the binary tasks that have none of their own, from validation data; None: they are chosen here.
    after_batch is called with the heads' outputs (float32) and the targets; it may raise to break off.
    """
    names = [task.name for task in tasks]
    sums = {name: torch.zeros((), dtype=torch.float64, device=device) for name in names}
    counts = dict.fromkeys(names, 0)
    gathered = {task.name: Gathered(task) for task in tasks if task.kind == "binary"}
    streamed = {
        task.name: {name: metric.clone().to(device) for name, metric in task.metrics.items()}
        for task in tasks
        if task.kind != "binary"
    }
    training = model.training
    model.eval()
    try:
        for inputs, targets in batches:
            with autocast():
                found = model(map_tensors(inputs, lambda t: t.to(device, non_blocking=True)), names)
            outputs = {name: found[name].float() for name in names}
            for task in tasks:
                output, target = outputs[task.name], targets[task.name]
                positions = task.labelled(target)
                if task.name in gathered:
                    gathered[task.name].add(output, target, positions)
                if positions is not None:
                    output, target = output[positions.to(device)], target[positions]
                if not len(target):
                    continue
                target = target.to(device)
                sums[task.name] += task.loss(output, target).double() * len(target)
                counts[task.name] += len(target)
                if metrics := streamed.get(task.name):
                    decoded = task.decode(output)
                    for metric in metrics.values():
                        metric.update(decoded, target)
            after_batch(outputs, targets)
    finally:
        model.train(training)
    sums = dict(zip(names, ranks.sum(list(sums.values())), strict=True))
    counts = dict(zip(names, ranks.total(list(counts.values())), strict=True))
    if ranks.size > 1:
        for task_gathered in gathered.values():
            task_gathered.gather(ranks)
    values = {f"{name}/loss": float(sums[name]) / counts[name] if counts[name] else float("nan") for name in names}
    present = [values[f"{name}/loss"] for name in names if counts[name]]
    for task_name, metrics in streamed.items():
        for name, metric in metrics.items():
            # torchmetrics puts together by itself what the ranks have
            values[f"{task_name}/{name}"] = float(metric.compute()) if counts[task_name] else float("nan")
    of_binary, confusion, used = judge(list(gathered.values()), thresholds)
    mean_loss = sum(present) / len(present) if present else float("nan")
    return ranks.same(Evaluation({**values, "mean_loss": mean_loss, **of_binary}, confusion, used))


def check_best(best: Best, tasks: Sequence[Task]) -> None:
    """Raises ValueError where `best` names a value that no validation of `tasks` finds, or the wrong direction."""
    known = {f"{task.name}/{name}": task.direction(name) for task in tasks for name in ("loss", *task.metrics)}
    known["mean_loss"] = "min"
    if any(task.kind == "binary" for task in tasks):
        known |= dict.fromkeys(OVERALL, "max")
    if best.value not in known:
        raise ValueError(f"best: there is no validation value '{best.value}'{nearest(best.value, known)}")
    if known[best.value] != best.direction:
        raise ValueError(f"best: for '{best.value}' the better direction is {known[best.value]}, not {best.direction}")
