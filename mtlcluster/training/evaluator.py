"""The evaluation of a run's model on one of its data sets, on all ranks."""

from typing import Any

import torch
from torch import Tensor

from mtlcluster.data.tensor_data import map_tensors
from mtlcluster.problem import MultiTaskModel
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.data_feed import DataFeed
from mtlcluster.training.distributed import Ranks
from mtlcluster.training.early_checks import untouched
from mtlcluster.training.gradients.forward import Autocast
from mtlcluster.training.gradients.rehearsal import has_lazy_layers
from mtlcluster.training.metrics import MetricError
from mtlcluster.training.validation import AfterBatch, Evaluation, evaluate


class Evaluator:
    """Evaluates the tasks that train. Every rank takes some of the batches."""

    def __init__(
        self,
        model: MultiTaskModel,
        feed: DataFeed,
        autocast: Autocast,
        device: torch.device,
        callbacks: Callbacks,
        ranks: Ranks,
    ) -> None:
        """
        Args:
            model: The model, on `device`.
            feed: Loads the batches.
            autocast: The context of every forward.
            device: The device of the model.
            callbacks: Asked after every batch whether to stop.
            ranks: The processes that train the run.
        """
        self.model, self.feed, self.autocast, self.device = model, feed, autocast, device
        self.callbacks, self.ranks = callbacks, ranks

    def __call__(
        self, dataset: Any, thresholds: dict[str, float] | None = None, after_batch: AfterBatch | None = None
    ) -> Evaluation:
        """Evaluates the model on a data set.

        Args:
            dataset: The data.
            thresholds: The thresholds of binary tasks; None: they are chosen on these data.
            after_batch: Called with outputs and targets of every batch of this rank.

        Raises:
            StopRequested: It was asked to stop, and nothing has changed. Several ranks go on to the end instead.
        """

        def after_each(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
            if self.ranks.size == 1 and self.callbacks.should_stop():
                raise StopRequested("stopped while it was evaluated; the last checkpoint is saved")
            if after_batch:
                after_batch(outputs, targets)

        loader = self.feed.load(dataset, self.feed.evaluation_indices(dataset))
        self.ranks.align(self.model)
        tasks = self.feed.tasks
        return evaluate(self.model, tasks, loader, self.autocast, self.device, thresholds, after_each, self.ranks)

    def output_shapes(self, dataset: Any) -> dict[str, list[int]]:
        """The shape of each head's output for one row, by task, found with the first batch. Changes nothing.

        Rank 0 may call it alone: the first batch is its own.
        """
        tasks = self.feed.tasks
        with untouched(self.model), torch.no_grad():
            self.model.eval()
            inputs, _ = next(self.feed.load(dataset, self.feed.evaluation_indices(dataset)[:1]))
            with self.autocast():
                outputs = self.model(map_tensors(inputs, lambda t: t.to(self.device)), [task.name for task in tasks])
        return {task.name: list(task.rows(outputs[task.name]).shape[1:]) for task in tasks}

    def try_out(self, dataset: Any) -> None:
        """Evaluates the first and the last batch, and changes nothing: so a mistake in a metric, or in a model that
        gets a batch of one sample, shows before the training and not after an epoch.

        Raises:
            MetricError: A metric fails on any data.
        """
        if has_lazy_layers(self.model):
            return
        with untouched(self.model):
            indices = self.feed.evaluation_indices(dataset)
            loader = self.feed.load(dataset, [*indices[:1], *indices[1:][-1:]])
            try:
                evaluate(self.model, self.feed.tasks, loader, self.autocast, self.device, ranks=self.ranks)
            except MetricError as error:
                if error.always:  # else the batch may just have too few samples for it
                    raise
