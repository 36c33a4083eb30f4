"""A step's batches on the device, and which of their samples count for which task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtlcluster.data.tensor_data import map_tensors
from mtlcluster.problem import Task


@dataclass
class Batch:
    """A micro-batch on the device, for the A active tasks.

    Attributes:
        inputs: any nest of tensors.
        targets: by task.
        labelled: for each task the positions of the rows that count for it (see Task.labelled). None: all.
        counts: for each task how many rows that are: samples, or elements of a dense task.
        samples: for each task in how many samples they are.
    """

    inputs: Any
    targets: dict[str, Tensor]
    labelled: list[Tensor | None]
    counts: list[int]
    samples: list[int]

    def of(self, places: list[int]) -> "Batch":
        """The same for some of the tasks."""
        labelled, counts = [self.labelled[k] for k in places], [self.counts[k] for k in places]
        return Batch(self.inputs, self.targets, labelled, counts, [self.samples[k] for k in places])


def prepare(batch: Any, tasks: Sequence[Task], device: torch.device, drawn: Sequence[Tensor] | None = None) -> Batch:
    """Moves a batch to the device and finds the rows that count.

    Args:
        batch: a pair (inputs, targets) on the CPU.
        tasks: the active tasks.
        device: where the model is.
        drawn: for each task the positions of the samples that are for it and for no other. None: every sample is for
            every task.
    """
    inputs, targets = batch
    labelled: list[Tensor | None] = []
    counts: list[int] = []
    samples: list[int] = []
    for k, task in enumerate(tasks):
        target, positions = targets[task.name], task.labelled(targets[task.name])
        size = target.shape[-2:].numel() if task.dense else 1  # rows of a sample
        if drawn is not None:
            rows = drawn[k] if size == 1 else (drawn[k][:, None] * size + torch.arange(size)).flatten()
            positions = common(rows, positions)
        if positions is None:
            counts.append(len(target) * size)
            samples.append(len(target))
        else:
            counts.append(len(positions))
            samples.append(len(positions) if size == 1 else int(torch.bincount(positions // size).count_nonzero()))
        labelled.append(positions)

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    names = {task.name for task in tasks}
    return Batch(
        map_tensors(inputs, move),
        {name: move(target) for name, target in targets.items() if name in names},
        [None if positions is None else move(positions) for positions in labelled],
        counts,
        samples,
    )


def common(drawn: Tensor, labelled: Tensor | None) -> Tensor:
    """The positions that are in both, in the order of `drawn`; None stands for all."""
    return drawn if labelled is None else drawn[torch.isin(drawn, labelled)]


def partition(shares: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Shuffles the positions 0 … size − 1 and cuts them into a part for each task."""
    return list(torch.randperm(size, generator=generator).split(largest_remainder(shares, size)))


def largest_remainder(shares: Tensor, size: int) -> list[int]:
    """Shares [T] of `size` as whole numbers that sum to `size`.

    Each is rounded down. Those that lose most by it get one more, the first among equals.
    """
    exact = shares * size
    counts = exact.floor()
    counts[(exact - counts).argsort(descending=True, stable=True)[: size - int(counts.sum())]] += 1
    return [int(count) for count in counts]
