"""Checks a batch before a model sees it: a wrong mask or a broken sample is named, not trained on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtlcluster.data.sequences import Padded
from mtlcluster.problem import Task
from mtlcluster.training.batches import batches, ordered_batches


class BatchError(ValueError):
    """A batch that breaks the contract; the message names samples, field and position."""


def sample_names(dataset: Dataset[Any], indices: Tensor) -> list[str]:
    """The names of samples: the dataset's `ids`, else their numbers."""
    ids = getattr(dataset, "ids", None)
    return [f"sample {i}" if ids is None else str(ids[i]) for i in indices.tolist()]


def check_batch(batch: Any, tasks: Sequence[Task], names: Sequence[str]) -> None:
    """Checks a batch.

    All numbers are finite. Labels are in range, and there is one for each sample and task (`missing` counts as one). A
    padded sequence has a bool mask of the values' shape with a valid position in each row; its values elsewhere are the
    padding, and no token at a valid position is.

    Args:
        batch: a pair (inputs, targets).
        tasks: the tasks whose targets are checked.
        names: [N], the names of the samples.

    Raises:
        BatchError: for the first thing that is wrong.
    """
    inputs, targets = _pair(batch)
    for field, value in _leaves(inputs, ""):
        if isinstance(value, Padded):
            _check_padded(field, value, names)
        else:
            _check_finite(field, value, names)
    for task in tasks:
        _check_targets(task, targets, names)


def _pair(batch: Any) -> tuple[Any, dict[str, Tensor]]:
    try:
        inputs, targets = batch
    except (TypeError, ValueError):
        many = f" of {len(batch)}" if isinstance(batch, (list, tuple)) else ""
        raise BatchError(f"a sample should be a pair (inputs, targets), found a {type(batch).__name__}{many}") from None
    if not isinstance(targets, Mapping):
        raise BatchError(f"a sample's targets should be a dict by task, found a {type(targets).__name__}")
    return inputs, targets  # type: ignore[return-value]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields every tensor and Padded of a nest with its place, such as `video` or `pair.0`."""
    if isinstance(value, (Tensor, Padded)):
        yield path or "inputs", value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{i}" if path else str(i))


def _check_padded(field: str, padded: Padded, names: Sequence[str]) -> None:
    values, mask, padding = padded
    if mask.dtype != torch.bool:
        raise BatchError(f"{field}: the mask should be bool, found {mask.dtype}")
    if mask.shape != values.shape[:2]:
        raise BatchError(f"{field}: the mask is {list(mask.shape)}, the values are {list(values.shape)}")
    _refuse_where(~mask.any(1), names, f"{field}: nothing is valid: its mask is all zero")
    is_padding = (values == padding).flatten(2).all(2) if values.ndim > 2 else values == padding
    filled = ~mask & ~is_padding
    if not values.is_floating_point():  # a vector of zeros is a value, a padding token is none
        _refuse_where(mask & is_padding, names, f"{field}: padding ({padding:g}) where the mask is one")
    _refuse_where(filled, names, f"{field}: a value other than the padding ({padding:g}) where the mask is zero")
    _check_finite(field, values, names)


def _check_finite(field: str, values: Tensor, names: Sequence[str]) -> None:
    if values.is_floating_point() and not bool(values.sum().isfinite()):  # the sum is many times faster
        _refuse_where(~values.isfinite(), names, f"{field}: a value that is not finite")


def _check_targets(task: Task, targets: dict[str, Tensor], names: Sequence[str]) -> None:
    field = f"targets of '{task.name}'"
    if task.name not in targets:
        raise BatchError(f"{field}: there are none")
    target = targets[task.name]
    if len(target) != len(names):
        raise BatchError(f"{field}: {len(target)} of them for {len(names)} samples")
    if task.dense and target.ndim not in (3, 4):
        raise BatchError(
            f"{field}: of a dense task, they should be [N, H, W] or [N, C, H, W], found {list(target.shape)}"
        )
    missing = task.is_missing(target)
    if target.is_floating_point():
        _refuse_where(~target.isfinite() & ~missing, names, f"{field}: a value that is not finite")
    if task.classes is not None:
        out = ((target < 0) | (target > task.classes - 1)) & ~missing
        _refuse_where(out, names, f"{field}: labels should be from 0 to {task.classes - 1}", target)


def _refuse_where(wrong: Tensor, names: Sequence[str], complaint: str, values: Tensor | None = None) -> None:
    """Raises BatchError if something is wrong.

    Args:
        wrong: bool [N, …], or of another shape for an input that has not one value for each sample.
        names: [N], the names of the samples.
        complaint: what is wrong.
        values: of the shape of `wrong`; the first wrong one is quoted.
    """
    if not bool(wrong.any()):
        return
    if not wrong.ndim or len(wrong) != len(names):
        raise BatchError(f"the batch of {some(names)}: {complaint}")
    first = wrong.nonzero()[0].tolist()
    rows = wrong.reshape(len(wrong), -1).any(1).nonzero().flatten().tolist()
    found = f", found {values[tuple(first)]:g}" if values is not None else ""
    place = f", at position {', '.join(map(str, first[1:]))}" if len(first) > 1 else ""
    which = f" of {names[rows[0]]}" if place and len(rows) > 1 else ""
    raise BatchError(f"{some([names[i] for i in rows])}: {complaint}{found}{place}{which}")


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def broken_batches(
    dataset: Dataset[Any],
    tasks: Sequence[Task],
    batch_size: int,
    collate: Callable[[list[Any]], Any] | None,
    workers: int,
) -> Iterator[BatchError | None]:
    """Yields for each batch of a dataset its mistake, or None."""
    parts = ordered_batches(len(dataset), batch_size)  # type: ignore[arg-type]
    for part, batch in zip(parts, batches(dataset, parts, collate=collate, workers=workers), strict=True):
        try:
            check_batch(batch, tasks, sample_names(dataset, part))
            yield None
        except BatchError as error:
            yield error


def checked(
    batches: Iterator[Any], parts: Sequence[Tensor], dataset: Dataset[Any], tasks: Sequence[Task], count: int
) -> Iterator[Any]:
    """Yields `batches` and checks the first `count` of them. Raises BatchError."""
    for i, batch in enumerate(batches):
        if i < count:
            check_batch(batch, tasks, sample_names(dataset, parts[i]))
        yield batch
