"""Losses and metrics of the tasks on validation or test data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtlcluster.config.run import Best
from mtlcluster.data.tensor_data import map_tensors
from mtlcluster.errors import nearest
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.sweep.status import UNDEFINED
from mtlcluster.training import metrics
from mtlcluster.training.binary_metrics import OVERALL, Gathered, judge
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.forward import Autocast
from mtlcluster.training.metrics import NO_LABELS

AfterBatch = Callable[[dict[str, Tensor], dict[str, Tensor]], object]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    values: `<task>/loss` and `<task>/<metric>` of every task; `mean_loss`, the plain mean of the losses; with binary
    tasks `mean_f1`, `exact_match` and `hamming_score` (see training/binary.py), and `<task>/threshold` where it was
    chosen on these data. Losses are means over the labelled samples; a task without any has NaN, and is left out of the
    means. undefined: what has no value because of the labels, and why. Of each binary task, confusion: counts [2, 2]
    (rows: truth, columns: decision; no before yes); thresholds: by which it was decided.
    """

    values: dict[str, float]
    confusion: dict[str, list[list[int]]]
    thresholds: dict[str, float]
    undefined: dict[str, str] = field(default_factory=dict)

    def notes(self, data: str) -> list[str]:
        """A sentence on each task's value of `data` ("validation" or "test") that is undefined; one on a task without
        labels.
        """
        found = []
        for name, reason in self.undefined.items():
            task, _, value = name.rpartition("/")
            if task and reason != NO_LABELS:
                found.append(f"{data}: {value} of task '{task}'{UNDEFINED}{reason}")
            elif task and value == "loss":
                found.append(f"{data}: task '{task}' has no value: {reason}")
        return found

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
    names, totals = [task.name for task in tasks], [Total(task, device) for task in tasks]
    training = model.training
    model.eval()
    try:
        for inputs, targets in batches:
            with autocast():
                found = model(map_tensors(inputs, lambda t: t.to(device, non_blocking=True)), names)
            outputs = {name: found[name].float() for name in names}
            for total in totals:
                total.add(outputs[total.task.name], targets[total.task.name])
            after_batch(outputs, targets)
    finally:
        model.train(training)
    return ranks.same(summed_up(totals, thresholds, ranks))


class Total:
    """What the batches so far have given one task: the sum of the losses over its labelled samples, their count, and
    what its metrics need.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device, self.count = task, device, 0
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.gathered = Gathered(task) if task.kind == "binary" else None
        streamed = task.metrics if self.gathered is None else {}
        self.metrics = {name: metric.clone().to(device) for name, metric in streamed.items()}
        self.lowest, self.highest = float("inf"), float("-inf")  # of the labels

    def add(self, output: Tensor, target: Tensor) -> None:
        """output: on the device. target: on the CPU."""
        output, target = self.see(output, target)
        if len(target):
            self.loss += self.task.loss(output, target).double() * len(target)

    def see(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same without the loss; returns what is labelled of both, on the device."""
        positions = self.task.labelled(target)
        if self.gathered is not None:
            self.gathered.add(output, target, positions)
        if positions is not None:
            output, target = output[positions.to(self.device)], target[positions]
        self.count += len(target)
        on_device = target.to(self.device)
        if self.metrics and len(target):
            low, high = target.aminmax()
            self.lowest, self.highest = min(self.lowest, float(low)), max(self.highest, float(high))
            decoded = self.task.decode(output)
            for name, metric in self.metrics.items():
                metrics.update(self.task, name, metric, decoded, on_device)
        return output, on_device

    def values(self, count: int, lowest: float, highest: float) -> tuple[dict[str, float], dict[str, str]]:
        """Of its metrics, and why some are undefined. count, lowest and highest are of the labels of all ranks."""
        values, undefined = {}, {}
        for name, metric in self.metrics.items():
            # torchmetrics puts together by itself what the ranks have
            number, reason = metrics.compute(self.task, name, metric) if count else (metrics.NAN, NO_LABELS)
            if reason and reason != NO_LABELS and lowest == highest:
                reason += f" (one label, {lowest:g})" if count == 1 else f" (all {count:,} labels are {lowest:g})"
            values[name] = number
            if reason:
                undefined[name] = reason
        return values, undefined


def summed_up(totals: Sequence[Total], thresholds: Mapping[str, float] | None, ranks: Ranks = ALONE) -> Evaluation:
    """Over all ranks."""
    losses, counts = ranks.sum([total.loss for total in totals]), ranks.total([total.count for total in totals])
    gathered = [total.gathered for total in totals if total.gathered is not None]
    if ranks.size > 1:
        for own in gathered:
            own.gather(ranks)
    values = {
        f"{total.task.name}/loss": float(loss) / count if count else float("nan")
        for total, loss, count in zip(totals, losses, counts, strict=True)
    }
    present = [loss for loss, count in zip(values.values(), counts, strict=True) if count]
    undefined = {name: NO_LABELS for name, count in zip(values, counts, strict=True) if not count}
    if not present:
        undefined["mean_loss"] = NO_LABELS
    ranges = ranks.all_of([(total.lowest, total.highest) for total in totals])
    for k, (total, count) in enumerate(zip(totals, counts, strict=True)):
        lowest, highest = min(own[k][0] for own in ranges), max(own[k][1] for own in ranges)
        for found, into in zip(total.values(count, lowest, highest), (values, undefined), strict=True):
            into.update({f"{total.task.name}/{name}": value for name, value in found.items()})  # type: ignore[attr-defined]
    binary = judge(gathered, thresholds)
    mean_loss = sum(present) / len(present) if present else float("nan")
    values = {**values, "mean_loss": mean_loss, **binary.values}
    return Evaluation(values, binary.confusion, binary.thresholds, undefined | binary.undefined)


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


class Undefined(ValueError):
    """The value that decides which checkpoint is the best cannot be had from the labels there are."""

    def __init__(self, best: Best, reason: str) -> None:
        super().__init__(
            f"best: the validation data allow no '{best.value}': {reason}; let another value decide, such as "
            f"mean_loss, or validate on data whose labels allow it"
        )
