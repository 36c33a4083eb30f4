"""From a step's batches to the gradient of every parameter, by whatever weighting and gradient method.

The batches of a step (several with `accumulate`) count as one: a task's loss is the mean over all its labelled samples
in them, and all that a method sees is of the whole.

Where a schedule gives shares, each sample is drawn for one task and counts for no other. The weights that the method
gives are then multiplied by how many samples a task had, in multiples of the mean over the tasks: with equal weights
the step goes down the mean over all samples, so that a task for which more are drawn trains more. (Its own mean over
more samples would be less noisy, but no larger.)
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster.methods.base import Active, Gradient, Weighting
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.data import map_tensors, tensors_in

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass
class Update:
    """What one computation of the gradients found, of the A tasks that had labels: losses [A], weights [A] (without
    what shares make of them), F; the least and the greatest value of each input and output; for a weighting
    that asks for it the norms [A] of the tasks' own, unweighted gradients at the last shared layer; and the cosines
    [A, A] between their gradients where the method computed the Gramian.
    """

    active: list[int]
    losses: Tensor
    weights: Tensor
    total: Tensor
    extremes: Tensor
    norms: Tensor | None = None
    cosines: Tensor | None = None


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
        return Batch(self.inputs, self.targets, [self.labelled[k] for k in places], pick(self.counts, places))


class Updater:
    """Fills the `.grad` of every trainable parameter of the model and of the weighting."""

    def __init__(
        self,
        model: MultiTaskModel,
        tasks: Sequence[Task],
        weighting: Weighting,
        gradient: Gradient,
        autocast: Autocast,
        device: torch.device,
    ) -> None:
        self.model, self.tasks, self.weighting, self.gradient = model, tasks, weighting, gradient
        self.autocast, self.device = autocast, device
        self.generator = gradient.context.generator
        self.shared = [p for p in model.shared_parameters() if p.requires_grad]
        self.heads = [[p for p in model.heads[task.name].parameters() if p.requires_grad] for task in tasks]
        if len({id(p) for head in self.heads for p in head}) < sum(len(head) for head in self.heads):
            raise ValueError("heads share a parameter with each other: what several tasks share belongs to the trunk")
        if idle := [task.name for task, head in zip(tasks, self.heads, strict=True) if not (self.shared or head)]:
            raise ValueError(f"nothing to train for {', '.join(idle)}: the trunk is frozen, and so is its head")
        self.last_layer = last_shared_layer(self.shared) if weighting.needs_gradient_norms else None
        self.reached: set[int] = set()      # the shared parameters that some task's gradient has reached in this step
        self.indices: dict[tuple[int, ...], Active] = {}

    def __call__(
        self, batches: list[Any], active: Sequence[int], scale: float = 1.0, shares: Tensor | None = None
    ) -> Update | None:
        """batches: pairs (inputs, targets) on the CPU. scale: what the losses are multiplied by before the backward
        (fp16); the gradients keep it. shares: see Schedule.shares. Returns None, leaving no gradient, where no active
        task has a label.
        """
        prepared = [self._prepare(batch, active, shares) for batch in batches]
        totals = [sum(batch.counts[k] for batch in prepared) for k in range(len(active))]
        present = [k for k, total in enumerate(totals) if total]
        if not present:
            return None
        if len(present) < len(active):
            prepared, active, totals = [b.of(present) for b in prepared], pick(active, present), pick(totals, present)
        parts = [[count / total for count, total in zip(batch.counts, totals, strict=True)] for batch in prepared]
        if self.gradient.needs == "nothing" and len(prepared) == 1 and shares is None:
            return self._plain(prepared[0], list(active), scale)
        emphasis = None
        if shares is not None:
            emphasis = torch.tensor(totals, device=self.device) * (len(self.tasks) / sum(totals))
        if self.gradient.needs == "nothing":
            return self._accumulated(prepared, parts, list(active), scale, emphasis)
        return self._per_task(prepared, parts, list(active), scale, emphasis)

    def _prepare(self, batch: Any, active: Sequence[int], shares: Tensor | None) -> Batch:
        inputs, targets = batch
        labelled = [self.tasks[i].labelled(targets[self.tasks[i].name]) for i in active]
        if shares is not None:
            drawn = partition(shares, len(targets[self.tasks[0].name]), self.generator)
            labelled = [common(drawn[i], positions) for i, positions in zip(active, labelled, strict=True)]
        counts = [
            len(targets[self.tasks[i].name]) if positions is None else len(positions)
            for i, positions in zip(active, labelled, strict=True)
        ]

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        names = {self.tasks[i].name for i in active}
        return Batch(
            map_tensors(inputs, move),
            {name: move(target) for name, target in targets.items() if name in names},
            [None if positions is None else move(positions) for positions in labelled],
            counts,
        )

    def _plain(self, batch: Batch, active: list[int], scale: float) -> Update:
        """One ordinary backward of F."""
        losses, extremes = self._losses(batch, active)
        rows = None if self.last_layer is None else self._rows(losses, [self.last_layer], scale, keep_graph=True)
        losses.retain_grad()        # from here on: the rows' backwards would count as well
        value = self.weighting(losses, self.index(active))
        (value if scale == 1 else value * scale).backward()
        assert losses.grad is not None
        weights = losses.grad if scale == 1 else losses.grad / scale
        return Update(active, losses.detach(), weights, value.detach(), extremes, _norms(rows))

    def _accumulated(
        self, batches: list[Batch], parts: list[list[float]], active: list[int], scale: float, emphasis: Tensor | None
    ) -> Update:
        """One backward per batch of its part in F, which is linear: its weights are known before the losses."""
        total, rows, extremes = torch.zeros(len(active), device=self.device), None, []
        effective = emphasised(self._weigh(total, active)[1], emphasis)
        for batch, part in zip(batches, parts, strict=True):
            losses, found = self._losses(batch, active)
            extremes.append(found)
            losses = losses * torch.tensor(part, device=self.device)
            total = total + losses.detach()
            if self.last_layer is not None:
                here = self._rows(losses, [self.last_layer], scale, keep_graph=True)
                rows = here if rows is None else rows + here
            losses.backward(effective * scale)
        value, weights = self._weigh(total, active, scale)
        return Update(active, total, weights, value, torch.cat(extremes), _norms(rows))

    def learn(self, found: Update) -> None:
        """Shows the methods what a step found that is to count."""
        if found.norms is not None:
            self.weighting.observe_gradients(found.losses, found.norms, self.index(found.active))

    def has_finite_gradient(
        self, batches: list[Any], task: int, scale: float = 1.0, shares: Tensor | None = None
    ) -> bool:
        """Whether the gradient of a task's own loss is finite in all parameters, over the step of `batches`."""
        for batch in batches:
            losses, _ = self._losses(self._prepare(batch, [task], shares), [task])
            found = torch.autograd.grad(losses[0] * scale, [*self.shared, *self.heads[task]], allow_unused=True)
            if not all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None):
                return False
        return True

    def guilty_samples(self, batches: list[Any], task: int) -> list[list[int]]:
        """In each batch the samples whose own loss of a task is not finite."""
        loss, name = self.tasks[task].loss, self.tasks[task].name
        guilty = []
        for raw in batches:
            batch = self._prepare(raw, [task], None)
            with torch.no_grad(), self.autocast():
                outputs = self.model(batch.inputs, [name])[name].float()
            labelled = range(len(outputs)) if batch.labelled[0] is None else batch.labelled[0].tolist()
            each = [loss(outputs[i : i + 1], batch.targets[name][i : i + 1]) for i in labelled]
            guilty.append([i for i, one in zip(labelled, each, strict=True) if not one.isfinite()])
        return guilty

    def _per_task(
        self, batches: list[Batch], parts: list[list[float]], active: list[int], scale: float, emphasis: Tensor | None
    ) -> Update:
        """A backward per task: the rows of the Jacobian over the shared parameters, and each head's own gradient."""
        self.reached = set()
        jacobian, total, extremes = None, torch.zeros(len(active), device=self.device), []
        for batch, part in zip(batches, parts, strict=True):
            losses, found = self._losses(batch, active)
            extremes.append(found)
            losses = losses * torch.tensor(part, device=self.device)
            total = total + losses.detach()
            rows = self._rows(losses, self.shared, scale, heads=[self.heads[i] for i in active])
            jacobian = rows if jacobian is None else jacobian + rows
        assert jacobian is not None
        value, weights = self._weigh(total, active, scale)
        effective = emphasised(weights, emphasis)
        for i, weight in zip(active, effective, strict=True):
            for parameter in self.heads[i]:
                if parameter.grad is not None:
                    parameter.grad *= weight
        gramian = (jacobian @ jacobian.T).double().cpu()
        self._combine(jacobian, gramian, effective, active, scale)
        norms = gramian.diagonal().clamp_min(0).sqrt()
        last = None if self.last_layer is None else self._last_part(jacobian)
        cosines = gramian / (norms[:, None] * norms)
        return Update(active, total, weights, value, torch.cat(extremes), _norms(last), cosines)

    def _combine(self, jacobian: Tensor, gramian: Tensor, weights: Tensor, active: list[int], scale: float) -> None:
        """Puts the method's direction into the shared parameters' gradients."""
        if self.gradient.needs == "gramian":
            w = weights.double().cpu()
            if bool(gramian.isfinite().all()):
                chosen = self.gradient.weights(w[:, None] * gramian * w, self.index(active))
            else:       # an overflow in fp16: the scaler will see it and leave out the step
                chosen = torch.ones_like(w)
            direction = (chosen * w).to(jacobian) @ jacobian
        else:
            direction = self.gradient.direction(jacobian * weights[:, None], self.index(active))
        direction *= scale
        for parameter, part in zip(self.shared, direction.split([p.numel() for p in self.shared]), strict=True):
            if id(parameter) in self.reached:       # else as after a plain backward: the optimizer leaves it alone
                parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def _losses(self, batch: Batch, active: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The losses [A] of a batch, each the mean over the samples that count for it, zero where it has none; and the
        least and the greatest value of each input, and of all outputs.
        """
        with self.autocast():
            outputs = self.model(batch.inputs, [self.tasks[i].name for i in active])
        losses: list[Tensor] = []
        flat: list[Tensor] = []         # together, for each small operation costs as much as a large one
        extremes: list[Tensor] = []
        for tensor in tensors_in(batch.inputs):
            if tensor.is_floating_point() and tensor.numel():
                extremes += torch.aminmax(tensor.float())
        for i, positions, count in zip(active, batch.labelled, batch.counts, strict=True):
            task = self.tasks[i]
            output, target = outputs[task.name].float(), batch.targets[task.name]
            flat.append(output.detach().flatten())
            if positions is not None:
                output, target = output[positions], target[positions]
            losses.append(task.loss(output, target) if count else output.sum() * 0)
        return torch.stack(losses), torch.stack([*extremes, *torch.aminmax(torch.cat(flat))])

    def _weigh(self, losses: Tensor, active: list[int], scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """F and the loss weights ∂F/∂L [A]; what the weighting learns gets its gradient, times `scale`."""
        leaf = losses.requires_grad_()
        value = self.weighting(leaf, self.index(active))
        learned = list(self.weighting.parameters())
        weights, *gradients = torch.autograd.grad(value, [leaf, *learned], allow_unused=True)
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient if gradient is None else gradient * scale
        losses.requires_grad_(False)
        return value.detach(), weights

    def _rows(
        self,
        losses: Tensor,
        parameters: list[nn.Parameter],
        scale: float,
        keep_graph: bool = False,
        heads: list[list[nn.Parameter]] | None = None,
    ) -> Tensor:
        """Each loss's unscaled gradient [A, n]; with `heads`, each task's head gets its (scaled) gradient added."""
        rows = losses.new_empty(len(losses), sum(p.numel() for p in parameters))
        for k, loss in enumerate(losses):
            head = heads[k] if heads else []
            found = torch.autograd.grad(
                loss * scale if scale != 1 else loss,
                [*parameters, *head],
                retain_graph=keep_graph or k < len(losses) - 1,
                allow_unused=True,
            )
            for part, parameter, gradient in zip(
                rows[k].split([p.numel() for p in parameters]), parameters, found[: len(parameters)], strict=True
            ):
                if gradient is None:
                    part.zero_()
                else:
                    part.copy_(gradient.flatten())
                    self.reached.add(id(parameter))
            for parameter, gradient in zip(head, found[len(parameters) :], strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return rows if scale == 1 else rows / scale

    def _last_part(self, jacobian: Tensor) -> Tensor:
        sizes = [p.numel() for p in self.shared]
        position = next(i for i, p in enumerate(self.shared) if p is self.last_layer)
        part: Tensor = jacobian.split(sizes, dim=1)[position]
        return part

    def index(self, active: list[int]) -> Active:
        """What takes the values [A] of the active tasks out of a tensor [T]."""
        if len(active) == len(self.tasks):
            return slice(None)
        key = tuple(active)
        if key not in self.indices:
            self.indices[key] = torch.tensor(active, device=self.device)
        return self.indices[key]


def _norms(rows: Tensor | None) -> Tensor | None:
    """Of rows [A, n]."""
    return None if rows is None else rows.norm(dim=1)


def pick(values: Sequence[int], places: list[int]) -> list[int]:
    return [values[k] for k in places]


def emphasised(weights: Tensor, emphasis: Tensor | None) -> Tensor:
    return weights if emphasis is None else weights * emphasis


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


def last_shared_layer(shared: list[nn.Parameter]) -> nn.Parameter:
    """The weight of the last shared layer: the last of the trainable shared parameters that is no vector."""
    matrices = [p for p in shared if p.ndim > 1]
    if not matrices:
        raise ValueError("gradnorm needs a trainable layer in the trunk: all of it is frozen")
    return matrices[-1]
