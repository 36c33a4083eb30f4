"""Finds before the first step why a training must fail, from the number of samples, the batch size and the labels."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from mtlcluster.config.run import RunConfig
from mtlcluster.data.tensor_data import TensorData, map_tensors
from mtlcluster.problem import Problem, Task
from mtlcluster.sweep.series import LOSS, MEAN_LOSS, RELATIVE_LOSS, task_and_value
from mtlcluster.training.batch_check import checked
from mtlcluster.training.batches import batches, lengths_of
from mtlcluster.training.gradients.forward import autocast
from mtlcluster.training.gradients.rehearsal import has_lazy_layers, without_trace
from mtlcluster.training.metrics import NAN_GIVEN, NO_LABELS
from mtlcluster.training.validation import Total, Undefined, summed_up

FEW = 10_000_000  # so many made-up outputs are taken at most to see whether labels allow a value


class Foreseen(ValueError):
    """A reason why a training must fail."""


def batches_per_epoch(length: int, config: RunConfig) -> int:
    """The number of batches of an epoch. Raises Foreseen if there are none."""
    if not length:
        raise Foreseen("the training data are empty")
    if config.last_batch == "keep":
        return math.ceil(length / config.batch_size)
    if length < config.batch_size:
        raise Foreseen(
            f"last_batch: drop leaves nothing of {length:,} training samples in batches of {config.batch_size:,}; "
            "say a smaller batch_size"
        )
    return length // config.batch_size


def foresee(problem: Problem, tasks: Sequence[Task], config: RunConfig, device: torch.device, ranks: int) -> None:
    """Checks whether a training can succeed. Neither the model nor a random generator changes.

    Args:
        problem: the problem; its model is on the device.
        tasks: the tasks that train.
        config: the run's configuration.
        device: where the model is.
        ranks: the number of processes that would train together.

    Raises:
        ValueError: the training would fail, now or later: Foreseen, Undefined, or a BatchError.
    """
    batches_per_epoch(len(problem.train), config)  # type: ignore[arg-type]
    if not len(problem.validation):  # type: ignore[arg-type]
        raise Foreseen("the validation data are empty")
    clusters = getattr(problem.test, "clusters", None)
    if clusters is not None and len(clusters) != len(problem.test):  # type: ignore[arg-type]
        raise Foreseen(f"the test data name {len(clusters):,} clusters for {len(problem.test):,} samples")  # type: ignore[arg-type]
    if has_lazy_layers(problem.model):
        return
    eager = torch.compiler.set_stance("force_eager") if config.compile else nullcontext()
    with untouched(problem.model), torch.no_grad(), eager:
        _try_smallest_batch(problem, tasks, config, device, ranks)
        _try_best(problem, tasks, config, device)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores the random generators and the model when it ends: its buffers, its mode, and plain attributes of its
    modules, such as a counter.
    """
    kept = [(module, dict(vars(module))) for module in model.modules()]
    try:
        with without_trace(model):
            yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)


def _try_smallest_batch(
    problem: Problem, tasks: Sequence[Task], config: RunConfig, device: torch.device, ranks: int
) -> None:
    """Raises Foreseen if the smallest batch, or a rank's part of it, is too small, such as for batch norm."""
    length: int = len(problem.train)  # type: ignore[arg-type]
    full, last = min(length, config.batch_size), _last_batch(length, config.batch_size)
    in_order = lengths_of(problem.train) is None
    never = in_order and (config.steps or math.inf) * config.accumulate < batches_per_epoch(length, config)
    if config.last_batch == "drop" or never:
        last = full
    if last >= 2 * ranks:
        return
    error = _failure(1, problem, tasks, config, device)
    if error is None or (length > 1 and _failure(2, problem, tasks, config, device)):
        return  # the latter is not about how many samples there are: the first step will tell
    words = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    parts = f", which {ranks} ranks share" if ranks > 1 else ""
    if length < 2 * ranks:
        raise Foreseen(
            f"there {'is' if length == 1 else 'are'} {_samples(length)} to train on{parts}, and the model can't be "
            f"trained on one alone ({words})"
        ) from error
    if full < 2 * ranks:
        raise Foreseen(
            f"a batch has {_samples(full)}{parts}, and the model can't be trained on one alone ({words}); "
            f"say a batch_size of {2 * ranks} or more"
        ) from error
    sizes = range(config.batch_size + 1, 2 * config.batch_size + 1)
    other = next((size for size in sizes if 2 * ranks <= _last_batch(length, size)), None)
    raise Foreseen(
        f"the last batch of an epoch has {_samples(last)}{parts} ({length:,} in batches of {config.batch_size:,}), and "
        f"the model can't be trained on one alone ({words}); say last_batch: drop"
        f"{f', or batch_size: {other}' if other else ''}"
    ) from error


def _last_batch(length: int, batch_size: int) -> int:
    return length % batch_size or min(length, batch_size)


def _samples(count: int) -> str:
    return "one sample" if count == 1 else f"{count} samples"


def _failure(
    count: int, problem: Problem, tasks: Sequence[Task], config: RunConfig, device: torch.device
) -> Exception | None:
    """Why the first `count` samples can't be trained on together."""
    # In a loader's process if the data have some: a file that they open at the first sample must not be shared.
    first = [torch.arange(count)]
    loader = batches(problem.train, first, 0, 0, problem.collate, min(problem.workers, 1))
    inputs, targets = next(checked(loader, first, problem.train, tasks, 1))
    problem.model.train()
    try:
        with autocast(config.precision, device):
            outputs = problem.model(map_tensors(inputs, lambda t: t.to(device)), [task.name for task in tasks])
        for task in tasks:
            positions = task.labelled(targets[task.name])
            if positions is None or (task.dense and len(positions)):
                loss = task.loss(*task.seen(outputs[task.name].float(), targets[task.name].to(device), positions))
                if not math.isfinite(float(loss)):  # a standard deviation of one sample, for example
                    raise ValueError(f"the loss of task '{task.name}' is {float(loss)}")
    except Exception as error:  # of the user's code
        return error
    return None


def _try_best(problem: Problem, tasks: Sequence[Task], config: RunConfig, device: torch.device) -> None:
    """Raises Undefined if the labels of the validation data allow no `best` value, whatever the model gives.

    Only labels of data that hold them as tensors are looked at.
    """
    of, value = task_and_value(config.best.value)
    concerned = [task for task in tasks if not of or task.name == of]
    labels = _labels(problem.validation) if problem.collate is None else {}
    if not all(task.name in labels for task in concerned):
        return
    if value in (LOSS, MEAN_LOSS, RELATIVE_LOSS):
        if not any(_label_count(task, labels[task.name]) for task in concerned):
            raise Undefined(config.best, NO_LABELS)
        return
    if of:
        concerned = [replace(task, metrics={value: task.metrics[value]}) for task in concerned if value in task.metrics]
    try:
        reasons = _reasons(problem, concerned, labels, config, device)
    except Exception:  # of the user's code: the first step or validation will tell
        return
    if all(reasons) and NAN_GIVEN not in reasons:
        raise Undefined(config.best, reasons[0])


def _labels(data: Dataset[Any]) -> dict[str, Tensor]:
    """The labels by task, of a dataset that holds them as tensors."""
    if isinstance(data, Subset):
        return {task: labels[list(data.indices)] for task, labels in _labels(data.dataset).items()}
    return data.targets if isinstance(data, TensorData) else {}


def _label_count(task: Task, targets: Tensor) -> int:
    positions = task.labelled(targets)
    return len(task.rows(targets)) if positions is None else len(positions)


def _reasons(
    problem: Problem, tasks: Sequence[Task], labels: dict[str, Tensor], config: RunConfig, device: torch.device
) -> list[str]:
    """Evaluates all labels with made-up outputs, twice.

    The outputs are those of the first batch, repeated; then the same a little changed. A metric may fail with either.

    Returns:
        For each evaluation why there is no `best` value; "" if there is one.
    """
    problem.model.eval()
    length = len(labels[tasks[0].name])
    first = [torch.arange(min(length, config.batch_size))]
    inputs, _ = next(batches(problem.validation, first, workers=min(problem.workers, 1)))
    with autocast(config.precision, device):
        outputs = problem.model(map_tensors(inputs, lambda t: t.to(device)), [task.name for task in tasks])
    if length * max(output[0].numel() for output in outputs.values()) > FEW:
        return [""]
    again, found = torch.arange(length) % config.batch_size, []
    for change in (0.0, 1e-3):
        totals = [Total(task, device) for task in tasks]
        for total in totals:
            made_up = outputs[total.task.name].float()[again]
            total.see(made_up + change * torch.randn_like(made_up), labels[total.task.name])
        found.append(summed_up(totals, None).undefined.get(config.best.value, ""))
    return found
