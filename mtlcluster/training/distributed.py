"""The processes (ranks) that train one run together. Each has a copy of the model and its part of every batch."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.parallel import DistributedDataParallel

BUCKET = 25 * 2**20  # bytes: large enough to be worth a message, small enough to begin early
LONGEST_WAIT = timedelta(minutes=30)  # for a rank that is late, with a validation or a checkpoint
T = TypeVar("T")
Row = list[Tensor | None]  # gradients of one task at several points; None: the task does not reach the point


class Ranks:
    """One process alone: it has all samples, and nothing to agree on. `Together` is one of several processes.

    Attributes:
        rank: The number of this process, from 0. Rank 0 writes all files.
        size: The number of processes.
    """

    rank = 0
    size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model to call where one ordinary backward gives all gradients."""
        return model

    def reducing(self, model: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """The context of a forward of the wrapped model.

        Args:
            model: The wrapped model.
            now: True if the backward that follows sums the gradients over the ranks.
        """
        return nullcontext()

    def unaveraged(self, weights: Tensor) -> Tensor:
        """The loss weights [A] for a backward through the wrapped model: times the number of ranks, since
        DistributedDataParallel takes the mean of the gradients and their sum is needed.
        """
        return weights

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sums each tensor over the ranks."""
        return list(tensors)

    def sum_in_place(self, rows: Tensor) -> None:
        """Sums a matrix over the ranks, row by row, in place."""

    def sum_rows(self, rows: list[Row], like: Sequence[Sequence[Tensor]]) -> list[Row]:
        """Sums gradients over the ranks, where some may be None: a model may skip on one rank what it calls on another.

        Args:
            rows: For each task its gradients at several tensors.
            like: These tensors, for each task.

        Returns:
            The sums; None where no rank has a gradient.
        """
        return rows

    def total(self, counts: list[int]) -> list[int]:
        """Sums each number over the ranks. The numbers are on the CPU."""
        return counts

    def same(self, value: T) -> T:
        """Rank 0's value."""
        return value

    def all_of(self, value: T) -> list[T]:
        """Every rank's value."""
        return [value]

    def part(self, size: int) -> slice:
        """The positions of this rank's samples in a batch of `size`."""
        return slice(0, size)

    def take(self, batch: Tensor) -> Tensor:
        """This rank's part of the samples [N] of a batch.

        If the batch is smaller than the number of ranks, some ranks have no sample of their own. They get one of
        another rank, since they must go through the model with the others; it does not count there.
        """
        return batch[self.part(len(batch))] if len(batch) >= self.size else batch[min(self.rank, len(batch) - 1)][None]

    def is_idle(self, size: int) -> bool:
        """True if a batch of `size` has no sample for this rank."""
        return self.rank >= size

    def own(self, positions: Tensor, size: int) -> Tensor:
        """The positions in this rank's part of those `positions` in a batch of `size` that belong to it."""
        part = self.part(size)
        found: Tensor = positions[(positions >= part.start) & (positions < part.stop)] - part.start
        return found

    def align(self, model: nn.Module) -> None:
        """Gives every rank the buffers of rank 0, such as batch norm's statistics."""

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Context in which rank 0 goes first. The others follow when it is done."""
        yield


ALONE = Ranks()


class Together(Ranks):
    """One of several processes, as torch's environment variables (RANK, WORLD_SIZE, …) say. See `Ranks`."""

    def __init__(self, device: torch.device) -> None:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=LONGEST_WAIT)
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wraps it in DistributedDataParallel, which sums the gradients while the backward still runs."""
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        # Heads of tasks that do not train at a step get no gradient.
        return DistributedDataParallel(
            model, devices, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=False
        )

    def reducing(self, model: nn.Module, now: bool) -> AbstractContextManager[Any]:
        return model.no_sync() if isinstance(model, DistributedDataParallel) and not now else nullcontext()

    def unaveraged(self, weights: Tensor) -> Tensor:
        summed: Tensor = weights * self.size  # DistributedDataParallel takes the mean
        return summed

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        buckets: list[list[Tensor]] = []
        filled, kind = 0, None
        for tensor in tensors:
            if tensor.dtype is not kind or filled >= BUCKET:
                buckets.append([])
                filled, kind = 0, tensor.dtype
            buckets[-1].append(tensor)
            filled += tensor.numel() * tensor.element_size()
        flat = [_flatten_dense_tensors(bucket) for bucket in buckets]
        for work in [dist.all_reduce(one, async_op=True) for one in flat]:
            work.wait()
        sums: list[Tensor] = []
        for one, bucket in zip(flat, buckets, strict=True):
            sums += _unflatten_dense_tensors(one, bucket)
        return sums

    def sum_in_place(self, rows: Tensor) -> None:
        for work in [dist.all_reduce(row, async_op=True) for row in rows]:
            work.wait()

    def sum_rows(self, rows: list[Row], like: Sequence[Sequence[Tensor]]) -> list[Row]:
        places = [(k, i) for k, row in enumerate(rows) for i in range(len(row))]
        somewhere = self.total([int(rows[k][i] is not None) for k, i in places])
        reached = [place for place, ranks in zip(places, somewhere, strict=True) if ranks]
        own = [(rows[k][i], like[k][i]) for k, i in reached]
        sums = self.sum([torch.zeros_like(tensor) if row is None else row for row, tensor in own])
        result: list[Row] = [[None] * len(row) for row in rows]
        for (k, i), total in zip(reached, sums, strict=True):
            result[k][i] = total
        return result

    def total(self, counts: list[int]) -> list[int]:
        total = torch.tensor(counts)
        dist.all_reduce(total)
        return total.tolist()

    def same(self, value: T) -> T:
        values = [value]
        dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def all_of(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def part(self, size: int) -> slice:
        each, more = divmod(size, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def align(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        if self.rank:
            self.same(None)
        yield
        if not self.rank:
            self.same(None)


def join(device: torch.device) -> Ranks:
    """Joins the other processes that train the run, if there are any."""
    return Together(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE


def local_rank() -> int:
    """The number of this process among those on this machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_size() -> int:
    """The number of processes on this machine that train the run."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
