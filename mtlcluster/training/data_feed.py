"""Loads this rank's batches, of an epoch or of an evaluation."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from mtlcluster.config.run import RunConfig
from mtlcluster.problem import Problem, Task
from mtlcluster.training.batch_check import checked
from mtlcluster.training.batches import batches, epoch_batches, lengths_of, ordered_batches
from mtlcluster.training.distributed import Ranks
from mtlcluster.training.seeding import mix_seed

CHECKED = 3  # the number of batches that are checked, at the beginning of every epoch and validation


class DataFeed:
    """Loads batches of a problem's data, and checks the first ones."""

    def __init__(self, problem: Problem, config: RunConfig, tasks: list[Task], ranks: Ranks) -> None:
        """
        Args:
            problem: Has the data.
            config: Has the seed and the size of a batch.
            tasks: The tasks that train, whose targets are checked.
            ranks: The processes that train the run, each with its part of a batch.
        """
        self.problem, self.config, self.tasks, self.ranks = problem, config, tasks, ranks

    def epoch_indices(self, epoch: int) -> list[Tensor]:
        """The sample indices of each batch of an epoch. A batch has the samples of all ranks."""
        data, config = self.problem.train, self.config
        length: int = len(data)  # type: ignore[arg-type]
        drop = config.last_batch == "drop"
        return epoch_batches(length, config.batch_size, config.seed, epoch, lengths_of(data), drop)

    def load_epoch(self, epoch: int, indices: list[Tensor], start: int) -> Iterator[Any]:
        """Loads this rank's part of the batches of an epoch, from batch `start` on."""
        own = [self.ranks.take(batch) for batch in indices[start:]]
        return self.load(self.problem.train, own, start, mix_seed("loading", self.config.seed, epoch))

    def evaluation_indices(self, dataset: Any) -> list[Tensor]:
        """The sample indices of each of this rank's batches in an evaluation."""
        every = ordered_batches(len(dataset), self.config.batch_size, lengths_of(dataset))
        return every[self.ranks.rank :: self.ranks.size]

    def load(self, dataset: Any, indices: list[Tensor], start: int = 0, seed: int = 0) -> Iterator[Any]:
        """Loads batches; see `batches` for the arguments.

        Raises:
            BatchError: One of the first batches is wrong; see batch_check.
        """
        loaded = batches(dataset, indices, start, seed, self.problem.collate, self.problem.workers)
        return checked(loaded, indices, dataset, self.tasks, CHECKED)
