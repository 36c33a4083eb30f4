"""The forwards of a step, and the losses of its tasks.

A step may have several micro-batches (`accumulate`) on several ranks. All of them count as one batch: the loss of a
task is the mean over all its labelled samples (of a dense task: elements), and a method sees values of the whole step.

A schedule may give shares. Each sample is then drawn for one task and counts for no other. The loss weights are
multiplied by the number of a task's samples, in multiples of the mean over the tasks. With equal weights the step thus
descends along the mean over all samples, so a task with more samples trains more. (The mean over a task's own samples
would be less noisy with more samples, but no larger.)
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from mtlcluster.data.tensor_data import tensors_in
from mtlcluster.methods.base import Active
from mtlcluster.problem import MultiTaskModel, Task, refuse_missing_outputs
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.batch import Batch, partition, prepare
from mtlcluster.training.gradients.last_used import LastUsed
from mtlcluster.training.gradients.rehearsal import without_trace
from mtlcluster.training.seeding import RandomState

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass
class StepData:
    """The micro-batches of a step, and the A active tasks that have labels in them.

    Attributes:
        batches: the micro-batches, on the device.
        fractions: for each micro-batch [A], the fraction of each task's labelled samples that is in it. None: all.
        active: positions of the A tasks.
        index: index that selects the A tasks from a per-task tensor.
        scale: factor of the losses before a backward (fp16).
        emphasis: [A], factor of the loss weights when samples are drawn for tasks. None: 1.
    """

    batches: list[Batch]
    fractions: list[Tensor | None]
    active: list[int]
    index: Active
    scale: float
    emphasis: Tensor | None

    def scaled(self, tensor: Tensor) -> Tensor:
        """The tensor times the scale. A scale of 1 takes no operation: each small one costs a step a little."""
        return tensor if self.scale == 1 else tensor * self.scale

    def emphasized(self, weights: Tensor) -> Tensor:
        """The loss weights [A] times the emphasis."""
        return weights if self.emphasis is None else weights * self.emphasis


@dataclass
class ForwardResult:
    """Result of the forwards of a step so far.

    Attributes:
        losses: [A], summed over the micro-batches so far. None before the first one.
        extremes: for each micro-batch the least and the greatest value of each input tensor and of all outputs.
    """

    losses: Tensor | None = None
    extremes: list[Tensor] = field(default_factory=list)


class Forwards:
    """Runs the model on the micro-batches of a step."""

    def __init__(
        self,
        model: MultiTaskModel,
        tasks: Sequence[Task],
        autocast: Autocast,
        device: torch.device,
        generator: torch.Generator,
        ranks: Ranks,
        reduces: bool,
    ) -> None:
        """Wraps the model for several ranks.

        Args:
            model: the model, on the device.
            tasks: all tasks of the run.
            autocast: makes the context of a forward in the run's precision.
            device: where the model is.
            generator: draws the samples of shares.
            ranks: the processes that train together.
            reduces: true if one ordinary backward gives all gradients. The wrapped model then sums them over the ranks.
        """
        self.model, self.tasks, self.autocast, self.device = model, tasks, autocast, device
        self.generator, self.ranks = generator, ranks
        self.called = ranks.wrap(model) if reduces else model
        self.indices: dict[tuple[int, ...], Active] = {}

    def leave_ranks(self) -> None:
        """From now on this rank computes with its own samples only."""
        self.ranks, self.called = ALONE, self.model

    def prepare(
        self,
        batches: list[Any],
        active: Sequence[int],
        scale: float = 1.0,
        shares: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> StepData | None:
        """Moves the batches to the device and finds out which samples count for which task.

        Args:
            batches: pairs (inputs, targets) on the CPU.
            active: positions of the active tasks.
            scale: factor of the losses before a backward (fp16).
            shares: see Schedule.shares.
            sizes: sizes of the whole batches when these are one rank's parts of them.

        Returns:
            The data for the active tasks that have labels, or None when no task has any.
        """
        tasks, prepared = [self.tasks[i] for i in active], []
        for number, batch in enumerate(batches):
            size = sizes[number] if sizes else len(batch[1][tasks[0].name])
            prepared.append(prepare(batch, tasks, self.device, self._drawn(size, active, shares)))
        totals = self.ranks.total([sum(batch.counts[k] for batch in prepared) for k in range(len(active))])
        present = [k for k, total in enumerate(totals) if total]
        if not present:
            return None
        if len(present) < len(totals):
            prepared = [batch.of(present) for batch in prepared]
            totals = [totals[k] for k in present]
        labelled = [active[k] for k in present]
        emphasis = None
        if shares is not None:
            samples = self.ranks.total([sum(batch.samples[k] for batch in prepared) for k in range(len(present))])
            emphasis = torch.tensor(samples, device=self.device) * (len(self.tasks) / sum(samples))
        return StepData(prepared, self._fractions(prepared, totals), labelled, self._index(labelled), scale, emphasis)

    def _drawn(self, size: int, active: Sequence[int], shares: Tensor | None) -> list[Tensor] | None:
        """For each active task the positions of the samples that are for it alone; None: all are for every task."""
        drawn = None
        if shares is not None:
            parts = partition(shares, size, self.generator)
            drawn = [self.ranks.own(parts[i], size) for i in active]
        if self.ranks.is_idle(size):
            drawn = [torch.empty(0, dtype=torch.int64) for _ in active]
        return drawn

    def _fractions(self, batches: list[Batch], totals: list[int]) -> list[Tensor | None]:
        """See StepData. totals: [A], the labelled samples of the whole step."""
        if len(batches) == 1 and self.ranks.size == 1:
            return [None]
        parts = [[count / total for count, total in zip(batch.counts, totals, strict=True)] for batch in batches]
        return list(torch.tensor(parts, device=self.device))

    def _index(self, active: list[int]) -> Active:
        """Index that selects the active tasks from a per-task tensor: the same object whenever they are the same."""
        if len(active) == len(self.tasks):
            return slice(None)
        key = tuple(active)
        if key not in self.indices:
            self.indices[key] = torch.tensor(active, device=self.device)
        return self.indices[key]

    def losses(self, data: StepData, number: int, result: ForwardResult) -> list[Tensor]:
        """Runs the model on one micro-batch and adds what it shows to `result`.

        Returns:
            A scalars with their graph: the mean loss of each task over its samples in this batch, times the fraction of
            its samples that is here; zero when it has none. They are separate tensors: a backward of one element of a
            joint tensor would go through the heads of all tasks.
        """
        batch, fractions = data.batches[number], data.fractions[number]
        is_last = number == len(data.batches) - 1
        tasks = [self.tasks[i] for i in data.active]
        with self.ranks.reducing(self.called, is_last), self.autocast():
            outputs = self.called(batch.inputs, [task.name for task in tasks])
        refuse_missing_outputs(outputs, (task.name for task in tasks))
        result.extremes.append(_extremes(batch.inputs, [outputs[task.name] for task in tasks]))
        losses: list[Tensor] = []
        for task, positions, count in zip(tasks, batch.labelled, batch.counts, strict=True):
            output, target = task.seen(outputs[task.name].float(), batch.targets[task.name], positions)
            losses.append(task.loss(output, target) if count else output.sum() * 0)
        if fractions is not None:
            losses = [loss * fraction for loss, fraction in zip(losses, fractions, strict=True)]
        here = torch.stack(losses).detach()
        result.losses = here if result.losses is None else result.losses + here
        return losses

    def watch(self) -> None:
        """Called where `last_used` will be asked for, before any forward."""

    def end_watch(self) -> None:
        """Called where it will not be asked for any more."""

    def last_used(self, data: StepData) -> str | None:
        """The name of the shared layer that the forwards of a step call last, on rank 0. None: they call none.

        It takes a rehearsal, eagerly: in a compiled model no module is called.
        """
        found = LastUsed(self.model)
        compiled = self.model._compiled_call_impl is not None
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            self.rehearse(data)
        found.end()
        return self.ranks.same(found.name)

    def over_ranks(self, result: ForwardResult) -> Tensor:
        """The losses [A] of all ranks' samples."""
        assert result.losses is not None
        return self.ranks.sum([result.losses])[0]

    def rehearse(self, data: StepData, random: RandomState | None = None) -> Tensor:
        """The losses [A] of a step, without a trace.

        Args:
            data: the step.
            random: the state of the random generators to begin with. None: the current one, so that the forwards that
                follow draw the same numbers.
        """
        result = ForwardResult()
        with without_trace(self.model, random), torch.no_grad():
            for number in range(len(data.batches)):
                self.losses(data, number, result)
        return self.over_ranks(result)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward in a configuration's precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


@torch.no_grad()
def _extremes(inputs: Any, outputs: list[Tensor]) -> Tensor:
    """See ForwardResult. The outputs are looked at together: each small operation costs as much as a large one."""
    found: list[Tensor] = []
    for tensor in tensors_in(inputs):
        if tensor.is_floating_point() and tensor.numel():
            found += torch.aminmax(tensor.float())
    return torch.stack([*found, *torch.aminmax(_flatten_dense_tensors([output.float() for output in outputs]))])
