"""The order of the samples, and loading batches of them.

For exact resume, the order depends on seed and epoch alone, and loading can begin at any batch.
"""

import ctypes
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mtlcluster.data.tensor_data import TensorData
from mtlcluster.training.loader_sockets import fit_names
from mtlcluster.training.resume.own_generators import Generator, own_generators, seed_generators
from mtlcluster.training.seeding import mix_seed

T = TypeVar("T")
POOL = 50  # batches
PR_SET_PDEATHSIG = 1


def lengths_of(dataset: Dataset[Any]) -> Tensor | None:
    """The lengths [N] of the samples of a dataset that wants batches of similar length, None for any other dataset.

    Raises:
        ValueError: There is not one number for each sample.
    """
    if (given := getattr(dataset, "lengths", None)) is None:
        return None
    lengths, count = torch.as_tensor(given), len(dataset)  # type: ignore[arg-type]
    if lengths.shape != (count,):
        raise ValueError(f"a dataset's lengths should be {count:,} numbers, one a sample, found {list(lengths.shape)}")
    return lengths


def epoch_batches(
    length: int, batch_size: int, seed: int, epoch: int, lengths: Tensor | None = None, drop: bool = False
) -> list[Tensor]:
    """Draws the batches of an epoch, in random order.

    Args:
        length: The number of samples.
        batch_size: The number of samples of a batch.
        seed: The run's seed.
        epoch: The epoch, from 0.
        lengths: The lengths [length] of the samples. If given, a batch holds samples of similar length: the shuffled
            samples are sorted inside pools of POOL batches, cut into batches, and the batches are shuffled.
        drop: If true, leaves out the batch that would be smaller than the others. Its samples differ in each epoch.

    Returns:
        For each batch the indices of its samples.
    """
    generator = torch.Generator().manual_seed(mix_seed("order", seed, epoch))
    order = torch.randperm(length, generator=generator)
    if drop:
        order = order[: length - length % batch_size]
    if lengths is None:
        return list(order.split(batch_size))
    pools = [pool[lengths[pool].argsort(stable=True)] for pool in order.split(POOL * batch_size)]
    cut = [batch for pool in pools for batch in pool.split(batch_size)]
    return [cut[i] for i in torch.randperm(len(cut), generator=generator)]


def ordered_batches(length: int, batch_size: int, lengths: Tensor | None = None) -> list[Tensor]:
    """The batches of an evaluation: samples in their order, or with `lengths` from the shortest to the longest."""
    order = torch.arange(length) if lengths is None else lengths.argsort(stable=True)
    return list(order.split(batch_size))


class _Seeded(Dataset[Any]):
    """Seeds the generators that the data draw from before each batch, by the batch's number. So what a worker process
    or a generator of the data's own draws does not depend on where training began.
    """

    def __init__(self, dataset: Dataset[Any], seed: int, collate: Any) -> None:
        self.dataset, self.seed, self.collate = dataset, seed, collate
        self.generators: list[Generator] | None = None  # found at the first batch: worker processes have copies

    def __getitems__(self, batch: tuple[int, list[int]]) -> list[Any]:
        number, indices = batch
        seed = mix_seed("batch", self.seed, number)
        if self.generators is None:
            self.generators = own_generators(self.dataset, self.collate)
        seed_generators(self.generators, seed)
        if torch.utils.data.get_worker_info() is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
        if hasattr(self.dataset, "__getitems__"):
            return list(self.dataset.__getitems__(indices))
        return [self.dataset[i] for i in indices]


def _end_with_trainer(_: int) -> None:
    """Makes a worker process die with the training process, even if it hangs in a file system."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def batches(
    dataset: Dataset[Any],
    indices: Sequence[Tensor],
    start: int = 0,
    seed: int = 0,
    collate: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
) -> Iterator[Any]:
    """Loads batches.

    Args:
        dataset: The data.
        indices: For each batch the indices of its samples.
        start: The number of the first batch.
        seed: Seeds, with the number of the batch, worker processes and generators of the data's own.
        collate: Makes a batch of a list of samples; torch's own if None.
        workers: The number of processes that load data.

    Yields:
        What `collate` returns, on the CPU.
    """
    if isinstance(dataset, TensorData) and collate is None:
        generators = own_generators(dataset)
        for i, samples in enumerate(indices):
            if generators:
                seed_generators(generators, mix_seed("batch", seed, start + i))
            yield dataset[samples]
        return
    if workers:
        fit_names()
    given = 0
    for batch in DataLoader(
        _Seeded(dataset, seed, collate),
        batch_sampler=[(start + i, samples.tolist()) for i, samples in enumerate(indices)],  # type: ignore[misc]
        num_workers=workers,
        worker_init_fn=_end_with_trainer,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),  # its own: the loader must not draw from the run's
    ):
        given += 1
        yield batch
    if given < len(indices):  # a loader takes StopIteration for the end of the data
        raise RuntimeError(f"the data gave {given} of {len(indices)} batches: a sample or collate raises StopIteration")


def groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yields lists of `size` items each; the last may be shorter."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
