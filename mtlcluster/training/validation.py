"""Losses and metrics of the tasks on validation or test data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtlcluster.config.run import Best
from mtlcluster.data.tensor_data import map_tensors
from mtlcluster.errors import nearest
from mtlcluster.problem import MultiTaskModel, Task, refuse_missing_outputs
from mtlcluster.sweep.series import CONFUSION, LOSS, MEAN_LOSS, RELATIVE_LOSS, evaluated, task_and_value, task_value
from mtlcluster.sweep.status import UNDEFINED
from mtlcluster.training import metrics
from mtlcluster.training.binary_metrics import BinaryTotal, Counted, Gathered, judge, names_over_all
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.forward import Autocast
from mtlcluster.training.metrics import NO_LABELS

AfterBatch = Callable[[dict[str, Tensor], dict[str, Tensor]], object]


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    A loss is the mean over the labelled samples, of a dense task over the labelled elements. A task without any label
    has NaN and is left out of the means.

    Attributes:
        values: `<task>/loss` and `<task>/<metric>` of every task; `mean_loss`, the plain mean of the losses; in a run
            also `relative_loss` (see relative_loss.py). With binary tasks `mean_f1`, `exact_match` and `hamming_score`
            (see binary_metrics.py), and `<task>/threshold` where it was chosen on these data.
        confusion: the counts [2, 2] of each binary task; rows are the truth, columns the decision, no before yes.
        thresholds: the threshold of each binary task's decisions.
        undefined: the values that the labels do not allow, and why.
    """

    values: dict[str, float]
    confusion: dict[str, list[list[int]]]
    thresholds: dict[str, float]
    undefined: dict[str, str] = field(default_factory=dict)

    def notes(self, data: str) -> list[str]:
        """Sentences on the values of tasks that are undefined; one sentence on a task without labels.

        Args:
            data: "validation" or "test".
        """
        found = []
        for name, reason in self.undefined.items():
            task, value = task_and_value(name)
            if task and reason != NO_LABELS:
                found.append(f"{data}: {value} of task '{task}'{UNDEFINED}{reason}")
            elif task and value == LOSS:
                found.append(f"{data}: task '{task}' has no value: {reason}")
        return found

    def series(self, data: str) -> dict[str, Any]:
        """All values as in the history. Their names begin with `data`, "validation" or "test"."""
        matrices = {task_value(task, CONFUSION): matrix for task, matrix in self.confusion.items()}
        return {evaluated(data, name): value for name, value in {**self.values, **matrices}.items()}


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
    """Evaluates the model in eval mode.

    Args:
        model: the model, on the device.
        tasks: the tasks to evaluate.
        batches: pairs (inputs, targets) on the CPU; this rank's part of them.
        autocast: makes the context of a forward in the run's precision.
        device: where the model is.
        thresholds: for the binary tasks that have none of their own, from validation data. None: they are chosen here.
        after_batch: called with the heads' outputs (float32) and the targets; it may raise to break off.
        ranks: the processes that evaluate together.

    Returns:
        What was found on the batches of all ranks.
    """
    names, totals = [task.name for task in tasks], [Total(task, device) for task in tasks]
    training = model.training
    model.eval()
    try:
        for inputs, targets in batches:
            with autocast():
                found = model(map_tensors(inputs, lambda t: t.to(device, non_blocking=True)), names)
            refuse_missing_outputs(found, names)
            outputs = {name: found[name].float() for name in names}
            for total in totals:
                total.add(outputs[total.task.name], targets[total.task.name])
            after_batch(outputs, targets)
    finally:
        model.train(training)
    return ranks.same(summed_up(totals, thresholds, ranks))


class Total:
    """Sums and metrics of one task over the batches so far.

    Attributes:
        count: the number of labelled rows: samples, or elements of a dense task.
        loss: the sum of their losses, float64.
        binary: what the metrics of a binary task need; None for other tasks.
        metrics: the metrics of other tasks, updated so far.
        lowest, highest: of the labels of other tasks.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device, self.count = task, device, 0
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.binary: BinaryTotal | None = None
        if task.kind == "binary":
            self.binary = Counted(task, device) if task.dense else Gathered(task)
        streamed = task.metrics if self.binary is None else {}
        self.metrics = {name: metric.clone().to(device) for name, metric in streamed.items()}
        self.lowest, self.highest = float("inf"), float("-inf")

    def add(self, output: Tensor, target: Tensor) -> None:
        """Adds a batch.

        Args:
            output: [N, …], what the task's head gives, on the device.
            target: [N, …], on the CPU.
        """
        output, target = self.see(output, target)
        if len(target):
            self.loss += self.task.loss(output, target).double() * len(target)

    def see(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Adds a batch without its loss. Returns the labelled rows of both, on the device."""
        positions = self.task.labelled(target)
        if self.binary is not None:
            self.binary.add(output, target, positions)
        output, target = self.task.seen(output, target, positions)
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
        """The values of the metrics, and why some are undefined.

        Args:
            count: the number of labelled rows of all ranks.
            lowest: the lowest label of all ranks.
            highest: the highest.
        """
        values, undefined = {}, {}
        for name, metric in self.metrics.items():
            # torchmetrics adds up by itself what the ranks have
            number, reason = metrics.compute(self.task, name, metric) if count else (metrics.NAN, NO_LABELS)
            if reason and reason != NO_LABELS and lowest == highest:
                reason += f" (one label, {lowest:g})" if count == 1 else f" (all {count:,} labels are {lowest:g})"
            values[name] = number
            if reason:
                undefined[name] = reason
        return values, undefined


def summed_up(totals: Sequence[Total], thresholds: Mapping[str, float] | None, ranks: Ranks = ALONE) -> Evaluation:
    """The evaluation of all ranks' batches."""
    losses, counts = ranks.sum([total.loss for total in totals]), ranks.total([total.count for total in totals])
    of_binary = [total.binary for total in totals if total.binary is not None]
    if ranks.size > 1:
        for own in of_binary:
            own.gather(ranks)
    values = {
        task_value(total.task.name, LOSS): float(loss) / count if count else float("nan")
        for total, loss, count in zip(totals, losses, counts, strict=True)
    }
    present = [loss for loss, count in zip(values.values(), counts, strict=True) if count]
    undefined = {name: NO_LABELS for name, count in zip(values, counts, strict=True) if not count}
    if not present:
        undefined[MEAN_LOSS] = NO_LABELS
    ranges = ranks.all_of([(total.lowest, total.highest) for total in totals])
    for k, (total, count) in enumerate(zip(totals, counts, strict=True)):
        lowest, highest = min(own[k][0] for own in ranges), max(own[k][1] for own in ranges)
        for found, into in zip(total.values(count, lowest, highest), (values, undefined), strict=True):
            into.update({task_value(total.task.name, name): one for name, one in found.items()})  # type: ignore[attr-defined]
    binary = judge(of_binary, thresholds)
    mean_loss = sum(present) / len(present) if present else float("nan")
    values = {**values, MEAN_LOSS: mean_loss, **binary.values}
    return Evaluation(values, binary.confusion, binary.thresholds, undefined | binary.undefined)


def check_best(best: Best, tasks: Sequence[Task]) -> None:
    """Raises ValueError if `best` names a value that no validation of `tasks` finds, or the wrong direction."""
    known = {task_value(task.name, name): task.direction(name) for task in tasks for name in (LOSS, *task.metrics)}
    known |= dict.fromkeys((MEAN_LOSS, RELATIVE_LOSS), "min")
    known |= dict.fromkeys(names_over_all(tasks), "max")
    if best.value not in known:
        raise ValueError(f"best: there is no validation value '{best.value}'{nearest(best.value, known)}")
    if known[best.value] != best.direction:
        raise ValueError(f"best: for '{best.value}' the better direction is {known[best.value]}, not {best.direction}")


class Undefined(ValueError):
    """Raised if the labels leave the value undefined that chooses the best checkpoint."""

    def __init__(self, best: Best, reason: str) -> None:
        super().__init__(
            f"best: the validation data allow no '{best.value}': {reason}; let another value decide, such as "
            f"mean_loss, or validate on data whose labels allow it"
        )
