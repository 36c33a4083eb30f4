"""From a step's batches to the gradient of every parameter, by whatever weighting and gradient method.

The batches of a step (several with `accumulate`, and of all ranks) count as one: a task's loss is the mean over all its
labelled samples in them, and all that a method sees is of the whole.

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

from mtlcluster.methods.base import Active, Gradient, Weighting
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.batch import Batch, partition, prepare
from mtlcluster.training.data import tensors_in
from mtlcluster.training.jacobian import Jacobian, Row, plus, scaled
from mtlcluster.training.linear import Layer, LinearLayers
from mtlcluster.training.ranks import ALONE, Ranks
from mtlcluster.training.representation import entering_heads
from mtlcluster.training.seeding import RandomState, random_state, set_random_state

Autocast = Callable[[], AbstractContextManager[Any]]
State = dict[str, Any]


@dataclass
class Choice:
    """What a gradient method saw of the A tasks' own, unweighted gradients, and what it made of them; on the CPU.

    cosines [A, A], norms [A]; weights a [A], None where it gave a direction instead.
    """

    cosines: Tensor
    norms: Tensor
    weights: Tensor | None = None


@dataclass
class Update:
    """What one computation of the gradients found, of the A tasks that had labels: losses [A], weights [A] (without
    what shares make of them), F; the least and the greatest value of each input and output; for a weighting
    that asks for it the norms [A] of the tasks' own, unweighted gradients at the last shared layer; what the gradient
    method chose, where it was asked; and the losses of the same samples once more, for who calls it.
    """

    active: list[int]
    losses: Tensor
    weights: Tensor
    total: Tensor
    extremes: Tensor
    norms: Tensor | None = None
    choice: Choice | None = None
    losses_again: Callable[[], Tensor] | None = None


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

    def effective(self, weights: Tensor) -> Tensor:
        return weights if self.emphasis is None else weights * self.emphasis


@dataclass
class Seen:
    """What the forwards of a step have shown so far: the losses [A] over all its samples, and extremes (see Update)."""

    losses: Tensor
    extremes: list[Tensor] = field(default_factory=list)


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
        linear_layers: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        """linear_layers: whether to look at them (see linear.py), which autocast and compiling forbid."""
        self.model, self.tasks, self.weighting, self.gradient = model, tasks, weighting, gradient
        self.autocast, self.device, self.ranks = autocast, device, ranks
        self.generator = gradient.context.generator
        self.shared = [p for p in model.shared_parameters() if p.requires_grad]
        self.heads = [[p for p in model.heads[task.name].parameters() if p.requires_grad] for task in tasks]
        if len({id(p) for head in self.heads for p in head}) < sum(len(head) for head in self.heads):
            raise ValueError("heads share a parameter with each other: what several tasks share belongs to the trunk")
        if idle := [task.name for task, head in zip(tasks, self.heads, strict=True) if not (self.shared or head)]:
            raise ValueError(f"nothing to train for {', '.join(idle)}: the trunk is frozen, and so is its head")
        needs_last = weighting.needs_gradient_norms or gradient.at == "last_layer"
        self.last_layer = last_shared_layer(self.shared) if needs_last else None
        visible = self.shared if linear_layers and ranks.size == 1 else []
        exact = gradient.needs == "gramian" and gradient.at == "shared"
        self.linear = LinearLayers(model, [p for p in visible if p is not self.last_layer] if exact else [])
        self.last_linear = LinearLayers(model, visible if weighting.needs_gradient_norms else [], self.last_layer)
        self.kept: dict[str, Any] | None = None     # with `every`: the weights a of which tasks, for how many steps now
        self.indices: dict[tuple[int, ...], Active] = {}
        self.called = ranks.wrap(model) if gradient.needs == "nothing" or not self.shared else model

    def __call__(
        self,
        batches: list[Any],
        active: Sequence[int],
        scale: float = 1.0,
        shares: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> Update | None:
        """batches: pairs (inputs, targets) on the CPU. scale: what the losses are multiplied by before the backward
        (fp16); the gradients keep it. shares: see Schedule.shares. sizes: of the whole batches, where these are one
        rank's parts. Returns None, leaving no gradient, where no active task has a label.
        """
        random = random_state() if self.weighting.needs_losses_after else None
        self.weighting.begin_step()
        step = self._step(batches, active, scale, shares, sizes)
        if step is None:
            return None
        if self.gradient.needs == "nothing" or not self.shared or self._kept(step.active) is not None:
            found = self._known(step)
        elif self.gradient.needs == "jacobian" or self.gradient.at == "shared":
            found = self._exact(step)
        else:
            found = self._approximated(step)
        if random is not None:
            found.losses_again = lambda: self._rehearse(step, random)
        return found

    def learn(self, found: Update) -> None:
        """Shows the methods what a step found, once it has been made."""
        active = self.index(found.active)
        if found.norms is not None:
            self.weighting.observe_gradients(found.losses, found.norms, active)
        if found.losses_again is not None:
            self.weighting.observe_losses_after(found.losses, found.losses_again(), active)
        choice = found.choice
        if choice is not None and choice.weights is not None:
            # Those of an overflow in fp16 were not the method's own: it is asked again at the next step.
            sound = bool(choice.norms.isfinite().all())
            self.kept = {"active": found.active, "weights": choice.weights.tolist(), "steps": 1} if sound else None
        elif self.kept is not None:
            self.kept = {**self.kept, "steps": self.kept["steps"] + 1}

    def leave_ranks(self) -> None:
        """From here on this rank looks at its own samples only."""
        self.ranks, self.called = ALONE, self.model

    def state_dict(self) -> State:
        return {"kept": self.kept}

    def load_state_dict(self, state: State) -> None:
        self.kept = state["kept"]

    def _kept(self, active: list[int]) -> list[float] | None:
        """The gradient method's weights of an earlier step, where they are to be used once more."""
        if self.kept is None or self.kept["active"] != active or self.kept["steps"] >= self.gradient.every:
            return None
        weights: list[float] = self.kept["weights"]
        return weights

    def has_finite_gradient(
        self, batches: list[Any], task: int, scale: float = 1.0, shares: Tensor | None = None
    ) -> bool:
        """Whether the gradient of a task's own loss is finite in all parameters, over the step of `batches`."""
        step = self._step(batches, [task], scale, shares)
        for number in range(len(step.batches) if step else 0):
            assert step is not None
            losses = self._forward(step, number, self._nothing_seen(step))
            found = torch.autograd.grad(losses[0] * scale, [*self.shared, *self.heads[task]], allow_unused=True)
            if not all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None):
                return False
        return True

    def guilty_samples(self, batches: list[Any], task: int) -> list[list[int]]:
        """In each batch the samples whose own loss of a task is not finite."""
        loss, name = self.tasks[task].loss, self.tasks[task].name
        guilty = []
        for raw in batches:
            batch = prepare(raw, [self.tasks[task]], self.device)
            with torch.no_grad(), self.autocast():
                outputs = self.model(batch.inputs, [name])[name].float()
            labelled = range(len(outputs)) if batch.labelled[0] is None else batch.labelled[0].tolist()
            each = [loss(outputs[i : i + 1], batch.targets[name][i : i + 1]) for i in labelled]
            guilty.append([i for i, one in zip(labelled, each, strict=True) if not one.isfinite()])
        return guilty

    # Three ways to the gradients -------------------------------------------------------------------------------------

    def _known(self, step: Step, choice: Choice | None = None) -> Update:
        """One backward a batch, for the gradient method is `sum` or has chosen already.

        With several batches the loss weights must be known before the first backward: where F is linear in the losses
        they do not depend on them, else a rehearsal finds the losses.
        """
        several, seen, at_last = len(step.batches) > 1, self._nothing_seen(step), None
        chosen = self._kept(step.active) if choice is None or choice.weights is None else choice.weights.tolist()
        if several:
            weights = self._weigh(step, seen.losses if self.weighting.linear else self._rehearse(step))[1]
        for number in range(len(step.batches)):
            with self.last_linear.watched() as layers:
                losses = self._forward(step, number, seen)
            if self.weighting.needs_gradient_norms:
                here = self._at_last_layer([] if several else self.last_linear.usable(layers, losses))
                at_last = self._take(step, losses, here, keep_graph=True).plus(at_last)
            if not several:
                value, weights = self._weigh(step, self._over_ranks(seen))
            self._backward(step, losses, weights, chosen)
        if several:
            value, weights = self._weigh(step, self._over_ranks(seen))
        if chosen is not None:
            self._sum_gradients_over_ranks()
        return self._update(step, seen, value, weights, choice, self._norms(step, self._summed_over_ranks(at_last)))

    def _backward(self, step: Step, losses: Tensor, weights: Tensor, chosen: list[float] | None) -> None:
        """One backward of the weighted losses, for the shared parameters with the gradient method's weights on top."""
        along = step.effective(weights) * step.scale
        if chosen is None:
            losses.backward(self.ranks.unaveraged(along))
            return
        heads = [p for i in step.active for p in self.heads[i]]
        if heads:
            torch.autograd.backward([losses], [along], retain_graph=True, inputs=heads)
        if self.shared:
            along = along * torch.tensor(chosen, device=along.device, dtype=along.dtype)
            torch.autograd.backward([losses], [along], inputs=self.shared)

    def _exact(self, step: Step) -> Update:
        """A backward per task: the rows of the Jacobian over the shared parameters, and each head's own gradient."""
        seen, jacobian = self._nothing_seen(step), None
        heads: list[Row] = [[None] * len(self.heads[i]) for i in step.active]
        for number in range(len(step.batches)):
            with self.linear.watched() as layers:
                losses = self._forward(step, number, seen)
            usable = self.linear.usable(layers, losses) if len(step.batches) == 1 else []
            here = Jacobian(self.shared, usable, len(step.active) if self.gradient.needs == "jacobian" else None)
            jacobian = self._take(step, losses, here, heads).plus(jacobian)
        assert jacobian is not None
        heads = self.ranks.sum_rows(heads, [self.heads[i] for i in step.active])
        self._summed_over_ranks(jacobian)
        value, weights = self._weigh(step, self._over_ranks(seen))
        effective = step.effective(weights)
        last = self._norms(step, jacobian)
        if self.gradient.needs == "gramian":
            gramian, factors = _to_cpu(jacobian.gramian(), effective)
            choice = self._choose(step, gramian, factors)
            assert choice.weights is not None
            found = jacobian.combine((choice.weights * factors).tolist())
        else:
            choice, factors, found = self._direct(step, jacobian, effective)
        for parameter, gradient in found:
            parameter.grad = gradient
        for i, factor, row in zip(step.active, factors.tolist(), heads, strict=True):
            for parameter, own in zip(self.heads[i], scaled(row, factor), strict=True):
                parameter.grad = own
        return self._update(step, seen, value, weights, choice, last)

    def _direct(
        self, step: Step, jacobian: Jacobian, effective: Tensor
    ) -> tuple[Choice, Tensor, list[tuple[nn.Parameter, Tensor]]]:
        """Of a method that needs the whole Jacobian: what it saw, the loss weights on the CPU, and the gradients."""
        columns = zip(*jacobian.rows, strict=True)
        reached = self.ranks.total([int(any(gradient is not None for gradient in column)) for column in columns])
        matrix = jacobian.matrix
        assert matrix is not None
        gramian, factors = _to_cpu((matrix @ matrix.T).double(), effective)
        matrix *= (effective / step.scale)[:, None]
        if bool(gramian.isfinite().all()):
            direction = self.gradient.direction(matrix, self.index(step.active))
        else:       # an overflow in fp16: the scaler will see it and leave out the step
            direction = matrix.sum(0)
        direction = direction if step.scale == 1 else direction * step.scale
        parts = direction.split([p.numel() for p in self.shared])
        found = [(p, part.view_as(p)) for p, part, some in zip(self.shared, parts, reached, strict=True) if some]
        return _seen_by_a_method(gramian / step.scale**2), factors, found

    def _approximated(self, step: Step) -> Update:
        """The Gramian at the representation or the last shared layer, then one backward with the weights it gives.

        Different samples have different representations, so the Gramians of batches add up. With several batches this
        is a rehearsal, for no batch's graph is kept.
        """
        seen, several, at_last = self._nothing_seen(step), len(step.batches) > 1, None
        gramian = torch.zeros((), dtype=torch.float64, device=self.device)
        with self._without_trace() if several else nullcontext():
            for number in range(len(step.batches)):
                with entering_heads(self.model) as points:
                    losses = self._forward(step, number, seen)
                if self.last_layer is not None:
                    at_last = self._take(step, losses, self._at_last_layer(), keep_graph=True).plus(at_last)
                if self.gradient.at == "representation":
                    if not points:
                        raise ValueError("at: representation: no head is called as a module with what the trunk gives")
                    gramian = gramian + self._take(step, losses, Jacobian(points), keep_graph=True).gramian()
                if several:
                    del losses, points      # and with them the batch's graph
        at_last = self._summed_over_ranks(at_last)
        if self.gradient.at == "representation":
            gramian = self.ranks.sum([gramian])[0]
        elif at_last is not None:
            gramian = at_last.gramian()
        value, weights = self._weigh(step, self._over_ranks(seen))
        choice = self._choose(step, *_to_cpu(gramian, step.effective(weights)))
        assert choice.weights is not None
        if several:
            return self._known(step, choice)
        self._backward(step, losses, weights, choice.weights.tolist())
        self._sum_gradients_over_ranks()
        return self._update(step, seen, value, weights, choice, self._norms(step, at_last))

    # Their parts -----------------------------------------------------------------------------------------------------

    def _step(
        self,
        batches: list[Any],
        active: Sequence[int],
        scale: float,
        shares: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> Step | None:
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
            emphasis = torch.tensor(totals, device=self.device) * (len(self.tasks) / sum(totals))
        return Step(prepared, parts, [active[k] for k in present], scale, emphasis)

    def _nothing_seen(self, step: Step) -> Seen:
        return Seen(torch.zeros(len(step.active), device=self.device))

    def _forward(self, step: Step, number: int, seen: Seen) -> Tensor:
        """The part of one batch in the losses [A]: each the mean over the samples that count for it, times their share
        of all; zero where it has none.
        """
        batch, part = step.batches[number], step.parts[number]
        last = number == len(step.batches) - 1
        with self.ranks.reducing(self.called, last), self.autocast():
            outputs = self.called(batch.inputs, [self.tasks[i].name for i in step.active])
        losses: list[Tensor] = []
        flat: list[Tensor] = []         # together, for each small operation costs as much as a large one
        extremes: list[Tensor] = []
        for tensor in tensors_in(batch.inputs):
            if tensor.is_floating_point() and tensor.numel():
                extremes += torch.aminmax(tensor.float())
        for i, positions, count in zip(step.active, batch.labelled, batch.counts, strict=True):
            task = self.tasks[i]
            output, target = outputs[task.name].float(), batch.targets[task.name]
            flat.append(output.detach().flatten())
            if positions is not None:
                output, target = output[positions], target[positions]
            losses.append(task.loss(output, target) if count else output.sum() * 0)
        stacked = torch.stack(losses)
        stacked = stacked if part is None else stacked * part
        seen.losses = seen.losses + stacked.detach()
        seen.extremes.append(torch.stack([*extremes, *torch.aminmax(torch.cat(flat))]))
        return stacked

    def _take(
        self, step: Step, losses: Tensor, jacobian: Jacobian, heads: list[Row] | None = None, keep_graph: bool = False
    ) -> Jacobian:
        """Fills the rows of `jacobian`, and adds to the gradients of each active task's head; all times the scale."""
        for k, loss in enumerate(losses):
            head = self.heads[step.active[k]] if heads else []
            row = torch.autograd.grad(
                loss * step.scale if step.scale != 1 else loss,
                [*jacobian.points, *head],
                retain_graph=keep_graph or k < len(losses) - 1,
                allow_unused=True,
            )
            jacobian.append(list(row[: len(row) - len(head)]))
            if heads:
                heads[k] = plus(heads[k], row[len(row) - len(head) :])
        return jacobian

    def _at_last_layer(self, layers: Sequence[Layer] = ()) -> Jacobian:
        assert self.last_layer is not None
        return Jacobian([self.last_layer], layers)

    def _weigh(self, step: Step, losses: Tensor) -> tuple[Tensor, Tensor]:
        """F and the loss weights ∂F/∂L [A]; what the weighting learns gets its gradient, times the scale."""
        leaf = losses.detach().requires_grad_()
        value = self.weighting(leaf, self.index(step.active))
        learned = list(self.weighting.parameters())
        weights, *gradients = torch.autograd.grad(value, [leaf, *learned], allow_unused=True)
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient if gradient is None else gradient * step.scale
        return value.detach(), weights

    def _choose(self, step: Step, gramian: Tensor, factors: Tensor) -> Choice:
        """What the method makes of a Gramian [A, A] of unweighted gradients and the loss weights [A], on the CPU."""
        choice = _seen_by_a_method(gramian / step.scale**2)
        weighted = factors[:, None] * (gramian / step.scale**2) * factors
        if bool(gramian.isfinite().all()):
            choice.weights = self.gradient.weights(weighted, self.index(step.active))
        else:       # an overflow in fp16: the scaler will see it and leave out the step
            choice.weights = torch.ones_like(factors)
        return choice

    def _norms(self, step: Step, jacobian: Jacobian | None) -> Tensor | None:
        """For a weighting that asks: the rows' norms [A] at the last shared layer."""
        if jacobian is None or self.last_layer is None or not self.weighting.needs_gradient_norms:
            return None
        return jacobian.norms(self.last_layer) / step.scale

    def _update(
        self, step: Step, seen: Seen, value: Tensor, weights: Tensor, choice: Choice | None, norms: Tensor | None
    ) -> Update:
        return Update(step.active, seen.losses, weights, value, torch.cat(seen.extremes), norms, choice)

    def _rehearse(self, step: Step, random: RandomState | None = None) -> Tensor:
        """The losses [A] of a step, with the random numbers that come next, or with those from `random` on."""
        seen = self._nothing_seen(step)
        with self._without_trace(random), torch.no_grad():
            for number in range(len(step.batches)):
                self._forward(step, number, seen)
        return self._over_ranks(seen)

    @contextmanager
    def _without_trace(self, random: RandomState | None = None) -> Iterator[None]:
        """What is done inside moves neither random generators nor buffers, such as batch norm's statistics: it has
        copies in their place.
        """
        buffers = [(m, name, b) for m in self.model.modules() for name, b in m._buffers.items() if b is not None]
        state = random_state()
        for module, name, buffer in buffers:
            module._buffers[name] = buffer.clone()
        if random is not None:
            set_random_state(random)
        try:
            yield
        finally:
            set_random_state(state)
            for module, name, buffer in buffers:
                module._buffers[name] = buffer

    def index(self, active: list[int]) -> Active:
        """What takes the values [A] of the active tasks out of a tensor [T]."""
        if len(active) == len(self.tasks):
            return slice(None)
        key = tuple(active)
        if key not in self.indices:
            self.indices[key] = torch.tensor(active, device=self.device)
        return self.indices[key]

    # Over the ranks --------------------------------------------------------------------------------------------------

    def _over_ranks(self, seen: Seen) -> Tensor:
        seen.losses = self.ranks.sum([seen.losses])[0]
        return seen.losses

    def _summed_over_ranks(self, jacobian: Jacobian | None) -> Jacobian | None:
        if jacobian is not None and jacobian.matrix is not None:
            jacobian.matrix.copy_(self.ranks.sum([jacobian.matrix])[0])
        elif jacobian is not None:
            parameters = [point for point in jacobian.plain if isinstance(point, nn.Parameter)]
            jacobian.rows = self.ranks.sum_rows(jacobian.rows, [parameters] * len(jacobian.rows))
        return jacobian

    def _sum_gradients_over_ranks(self) -> None:
        """Where the model's own backward did not."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        [sums] = self.ranks.sum_rows([[p.grad for p in parameters]], [parameters])
        for parameter, gradient in zip(parameters, sums, strict=True):
            parameter.grad = gradient


def _to_cpu(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """A Gramian [A, A] and loss weights [A], in one transfer, float64."""
    both = torch.cat([gramian.to(weights.device).flatten(), weights.double()]).cpu()
    return both[: -len(weights)].view(len(weights), -1), both[-len(weights) :]


def _seen_by_a_method(gramian: Tensor) -> Choice:
    norms = gramian.diagonal().clamp_min(0).sqrt()
    return Choice(gramian / (norms[:, None] * norms), norms)


def last_shared_layer(shared: list[nn.Parameter]) -> nn.Parameter:
    """The weight of the last shared layer: the last of the trainable shared parameters that is no vector."""
    matrices = [p for p in shared if p.ndim > 1]
    if not matrices:
        raise ValueError("the method needs a trainable layer in the trunk: all of it is frozen")
    return matrices[-1]
