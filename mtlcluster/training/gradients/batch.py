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
    """A batch on the device; for each task at hand the positions of the samples that count for it (None: all), and how
    many.
    """

    inputs: Any
    targets: dict[str, Tensor]
    labelled: list[Tensor | None]
    counts: list[int]

    def of(self, places: list[int]) -> "Batch":
        """The same for some of the tasks."""
        return Batch(self.inputs, self.targets, [self.labelled[k] for k in places], [self.counts[k] for k in places])


def prepare(batch: Any, tasks: Sequence[Task], device: torch.device, drawn: Sequence[Tensor] | None = None) -> Batch:
    """batch: a pair (inputs, targets) on the CPU. drawn: the positions of the samples that are for each of `tasks`, and
    for no other; None: every sample is for every task.
    """
    inputs, targets = batch
    labelled = [task.labelled(targets[task.name]) for task in tasks]
    if drawn is not None:
        labelled = [common(own, positions) for own, positions in zip(drawn, labelled, strict=True)]
    counts = [
        len(targets[task.name]) if positions is None else len(positions)
        for task, positions in zip(tasks, labelled, strict=True)
    ]

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    names = {task.name for task in tasks}
    return Batch(
        map_tensors(inputs, move),
        {name: move(target) for name, target in targets.items() if name in names},
        [None if positions is None else move(positions) for positions in labelled],
        counts,
    )


def common(drawn: Tensor, labelled: Tensor | None) -> Tensor:
    """The positions that are in both; None stands for all."""
    return drawn if labelled is None else drawn[torch.isin(drawn, labelled)]


def partition(shares: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """The positions 0 … size − 1, shuffled and cut into a part for each task."""
    return list(torch.randperm(size, generator=generator).split(largest_remainder(shares, size)))


def largest_remainder(shares: Tensor, size: int) -> list[int]:
    """shares [T] of `size` in whole numbers that sum to it: each rounded down, and one more for those that lose most by
    it, the first among equals.
    """
    exact = shares * size
    counts = exact.floor()
    counts[(exact - counts).argsort(descending=True, stable=True)[: size - int(counts.sum())]] += 1
    return [int(count) for count in counts]
