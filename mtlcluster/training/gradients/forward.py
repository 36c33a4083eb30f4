"""The forwards of a step. Its batches (several with `accumulate`, and of all ranks) count as one: a task's loss is the
mean over all its labelled samples (of a dense task: elements) in them, and all that a method sees is of the whole.

Where a schedule gives shares, each sample is drawn for one task and counts for no other. The weights that the method
gives are then multiplied by how many samples a task had, in multiples of the mean over the tasks: with equal weights
the step goes down the mean over all samples, so that a task for which more are drawn trains more. (Its own mean over
more samples would be less noisy, but no larger.)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors
from torch.nn.parameter import is_lazy

from mtlcluster.data.tensor_data import tensors_in
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.batch import Batch, partition, prepare
from mtlcluster.training.seeding import RandomState, random_state, set_random_state

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass
class Step:
    """The batches of a step, and the active tasks that have labels in them.

    parts: by batch, the part [A] of each task's labelled samples that is in it; None: all are. scale: of the losses,
    before a backward. emphasis: by what the drawn samples multiply the weights [A].
    """

    batches: list[Batch]
    parts: list[Tensor | None]
    active: list[int]
    scale: float
    emphasis: Tensor | None

    def scaled(self, tensor: Tensor) -> Tensor:
        """Times the scale; no operation where that is 1, for each small one costs a step a little."""
        return tensor if self.scale == 1 else tensor * self.scale

    def effective(self, weights: Tensor) -> Tensor:
        return weights if self.emphasis is None else weights * self.emphasis


@dataclass
class Seen:
    """What the forwards of a step have shown so far: the losses [A] over all its samples; by batch the least and the
    greatest value of each input, and of all outputs.
    """

    losses: Tensor | None = None
    extremes: list[Tensor] = field(default_factory=list)


class Forwards:
    """Makes them, for the active tasks, on the device."""

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
        """generator: draws the samples of shares. reduces: whether the model's own backward gives the gradients' sum
        over the ranks.
        """
        self.model, self.tasks, self.autocast, self.device = model, tasks, autocast, device
        self.generator, self.ranks = generator, ranks
        self.called = ranks.wrap(model) if reduces else model

    def leave_ranks(self) -> None:
        """From here on this rank looks at its own samples only."""
        self.ranks, self.called = ALONE, self.model

    def step(
        self,
        batches: list[Any],
        active: Sequence[int],
        scale: float = 1.0,
        shares: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> Step | None:
        """See Updater. None where no active task has a label."""
        tasks, prepared = [self.tasks[i] for i in active], []
        for number, batch in enumerate(batches):
            size = sizes[number] if sizes else len(batch[1][tasks[0].name])
            drawn = None
            if shares is not None:
                of_all = partition(shares, size, self.generator)
                drawn = [self.ranks.own(of_all[i], size) for i in active]
            if self.ranks.is_idle(size):
                drawn = [torch.empty(0, dtype=torch.int64) for _ in active]
            prepared.append(prepare(batch, tasks, self.device, drawn))
        totals = self.ranks.total([sum(batch.counts[k] for batch in prepared) for k in range(len(active))])
        present = [k for k, total in enumerate(totals) if total]
        if not present:
            return None
        if len(present) < len(totals):
            prepared = [batch.of(present) for batch in prepared]
            totals = [totals[k] for k in present]
        parts: list[Tensor | None] = [None]
        if len(prepared) > 1 or self.ranks.size > 1:
            shown = [[count / total for count, total in zip(b.counts, totals, strict=True)] for b in prepared]
            parts = list(torch.tensor(shown, device=self.device))
        emphasis = None
        if shares is not None:
            samples = self.ranks.total([sum(batch.samples[k] for batch in prepared) for k in range(len(present))])
            emphasis = torch.tensor(samples, device=self.device) * (len(self.tasks) / sum(samples))
        return Step(prepared, parts, [active[k] for k in present], scale, emphasis)

    def losses(self, step: Step, number: int, seen: Seen) -> list[Tensor]:
        """The part of one batch in the A losses: each the mean over the samples that count for it, times their share
        of all; zero where it has none. Each by itself: a backward of one element of a tensor of them would go through
        all tasks' heads.
        """
        batch, part = step.batches[number], step.parts[number]
        last = number == len(step.batches) - 1
        with self.ranks.reducing(self.called, last), self.autocast():
            outputs = self.called(batch.inputs, [self.tasks[i].name for i in step.active])
        losses: list[Tensor] = []
        seen.extremes.append(_extremes(batch.inputs, [outputs[self.tasks[i].name] for i in step.active]))
        for i, positions, count in zip(step.active, batch.labelled, batch.counts, strict=True):
            task = self.tasks[i]
            output, target = task.seen(outputs[task.name].float(), batch.targets[task.name], positions)
            losses.append(task.loss(output, target) if count else output.sum() * 0)
        if part is not None:
            losses = [loss * own for loss, own in zip(losses, part, strict=True)]
        here = torch.stack(losses).detach()
        seen.losses = here if seen.losses is None else seen.losses + here
        return losses

    def over_ranks(self, seen: Seen) -> Tensor:
        """The losses [A] of all ranks' samples."""
        assert seen.losses is not None
        seen.losses = self.ranks.sum([seen.losses])[0]
        return seen.losses

    def rehearse(self, step: Step, random: RandomState | None = None) -> Tensor:
        """The losses [A] of a step, with the random numbers that come next, or with those from `random` on."""
        seen = Seen()
        with without_trace(self.model, random), torch.no_grad():
            for number in range(len(step.batches)):
                self.losses(step, number, seen)
        return self.over_ranks(seen)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """What a forward in a configuration's precision is made in."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


@contextmanager
def without_trace(model: nn.Module, random: RandomState | None = None) -> Iterator[None]:
    """What is done inside moves neither random generators nor the model's buffers, such as batch norm's statistics: it
    has copies in their place. (Not those of lazy layers, which have to be made.)
    """
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    state = random_state()
    for module, own in buffers:
        module._buffers |= {name: b.clone() for name, b in own.items() if b is not None and not is_lazy(b)}
    if random is not None:
        set_random_state(random)
    try:
        yield
    finally:
        set_random_state(state)
        for module, own in buffers:
            module._buffers.clear()  # of those that are made inside, too
            module._buffers.update(own)


def has_lazy_layers(model: nn.Module) -> bool:
    """Whether its first forward, which must be that of the first step, will make some of it."""
    return any(is_lazy(tensor) for tensors in (model.parameters(), model.buffers()) for tensor in tensors)


@torch.no_grad()
def _extremes(inputs: Any, outputs: list[Tensor]) -> Tensor:
    """See Seen. The outputs together, for each small operation costs as much as a large one."""
    found: list[Tensor] = []
    for tensor in tensors_in(inputs):
        if tensor.is_floating_point() and tensor.numel():
            found += torch.aminmax(tensor.float())
    return torch.stack([*found, *torch.aminmax(_flatten_dense_tensors([output.float() for output in outputs]))])
