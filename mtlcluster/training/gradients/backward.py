"""From a step's batches to the gradient of every parameter, by whatever weighting and gradient method."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlcluster.methods.base import Active, Gradient, Weighting
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.aggregate import Choice, choose, seen_by_a_method, to_cpu
from mtlcluster.training.gradients.forward import Autocast, Forwards, Seen, Step, without_trace
from mtlcluster.training.gradients.jacobian import Jacobian, Memory, Row, plus, scaled
from mtlcluster.training.gradients.linear_layers import Layer, LinearLayers
from mtlcluster.training.gradients.representation import entering_heads
from mtlcluster.training.seeding import random_state

State = dict[str, Any]


@dataclass
class Update:
    """What one computation of the gradients found, of the A tasks that had labels: losses [A], weights [A] (without
    what shares make of them), F; by batch the least and the greatest values of inputs and outputs; for a weighting
    that asks for it the norms [A] of the tasks' own, unweighted gradients at the last shared layer; what the gradient
    method chose, where it was asked; and the losses of the same samples once more, for who calls it.
    """

    active: list[int]
    losses: Tensor
    weights: Tensor
    total: Tensor
    extremes: list[Tensor]
    norms: Tensor | None = None
    choice: Choice | None = None
    losses_again: Callable[[], Tensor] | None = None


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
        forwards: type[Forwards] = Forwards,
    ) -> None:
        """linear_layers: whether to look at them (see linear.py), which autocast and compiling forbid. forwards: what
        runs the model; in a loop of one's own it takes the losses from outside.
        """
        self.model, self.tasks, self.weighting, self.gradient = model, tasks, weighting, gradient
        self.device, self.ranks = device, ranks
        self.shared = [p for p in model.shared_parameters() if p.requires_grad]
        self.learned = list(weighting.parameters())
        self.heads = [[p for p in model.heads[task.name].parameters() if p.requires_grad] for task in tasks]
        if len({id(p) for head in self.heads for p in head}) < sum(len(head) for head in self.heads):
            raise ValueError("heads share a parameter with each other: what several tasks share belongs to the trunk")
        if idle := [task.name for task, head in zip(tasks, self.heads, strict=True) if not (self.shared or head)]:
            raise ValueError(f"nothing to train for {', '.join(idle)}: the trunk is frozen, and so is its head")
        needs_last = weighting.needs_gradient_norms or gradient.at == "last_layer"
        self.last_layer = model.last_shared_weight() if needs_last else None
        visible = self.shared if linear_layers and ranks.size == 1 else []
        exact = gradient.needs == "gramian" and gradient.at == "shared"
        self.linear = LinearLayers(model, [p for p in visible if p is not self.last_layer] if exact else [])
        self.last_linear = LinearLayers(model, visible if weighting.needs_gradient_norms else [], self.last_layer)
        self.memory = Memory()
        self.kept: dict[str, Any] | None = None  # with `every`: the weights a of which tasks, for how many steps now
        self.indices: dict[tuple[int, ...], Active] = {}
        one_backward = gradient.needs == "nothing" or not self.shared
        self.forwards = forwards(
            model, tasks, autocast, device, gradient.context.generator, ranks, reduces=one_backward
        )

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
        step = self.forwards.step(batches, active, scale, shares, sizes)
        if step is None:
            return None
        if self.gradient.needs == "nothing" or not self.shared or self._kept(step.active) is not None:
            found = self._known(step)
        elif self.gradient.needs == "jacobian" or self.gradient.at == "shared":
            found = self._exact(step)
        else:
            found = self._approximated(step)
        if random is not None:
            found.losses_again = lambda: self.forwards.rehearse(step, random)
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
            sound = bool(np.isfinite(choice.norms).all())
            self.kept = {"active": found.active, "weights": choice.weights.tolist(), "steps": 1} if sound else None
        elif self.kept is not None:
            self.kept = {**self.kept, "steps": self.kept["steps"] + 1}

    def leave_ranks(self) -> None:
        """From here on this rank looks at its own samples only."""
        self.ranks = ALONE
        self.forwards.leave_ranks()

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

    # Three ways to the gradients -------------------------------------------------------------------------------------

    def _known(self, step: Step, choice: Choice | None = None) -> Update:
        """One backward a batch, for the gradient method is `sum` or has chosen already.

        With several batches the loss weights must be known before the first backward: where F is linear in the losses
        they do not depend on them, else a rehearsal finds the losses.
        """
        several, seen, at_last = len(step.batches) > 1, Seen(), None
        chosen = self._kept(step.active) if choice is None or choice.weights is None else choice.weights.tolist()
        if several:
            unknown = torch.zeros(len(step.active), device=self.device)
            weights = self._weigh(step, unknown if self.weighting.linear else self.forwards.rehearse(step))[1]
        for number in range(len(step.batches)):
            with self.last_linear.watched() as layers:
                losses = self.forwards.losses(step, number, seen)
            if self.weighting.needs_gradient_norms:
                at_last = at_last or self._at_last_layer(
                    step, [] if several else self.last_linear.usable(layers, losses)
                )
                self._take(step, losses, at_last, keep_graph=True)
            if not several:
                value, weights = self._weigh(step, self.forwards.over_ranks(seen))
            self._backward(step, losses, weights, chosen)
        if several:
            value, weights = self._weigh(step, self.forwards.over_ranks(seen))
        if chosen is not None:
            self._sum_gradients_over_ranks()
        return self._update(step, seen, value, weights, choice, self._norms(step, self._summed_over_ranks(at_last)))

    def _backward(self, step: Step, each: list[Tensor], weights: Tensor, chosen: list[float] | None) -> None:
        """One backward of the weighted losses, for the shared parameters with the gradient method's weights on top."""
        losses, along = torch.stack(each), step.scaled(step.effective(weights))
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
        seen, jacobian = Seen(), None
        heads: list[Row] = [[None] * len(self.heads[i]) for i in step.active]
        for number in range(len(step.batches)):
            with self.linear.watched() as layers:
                losses = self.forwards.losses(step, number, seen)
            usable = self.linear.usable(layers, losses) if len(step.batches) == 1 else []
            jacobian = jacobian or Jacobian(len(step.active), self.shared, usable, memory=self.memory)
            self._take(step, losses, jacobian, heads)
        assert jacobian is not None
        heads = self.ranks.sum_rows(heads, [self.heads[i] for i in step.active])
        self._summed_over_ranks(jacobian)
        value, weights = self._weigh(step, self.forwards.over_ranks(seen))
        effective = step.effective(weights)
        last = self._norms(step, jacobian)
        if self.gradient.needs == "gramian":
            gramian, factors = to_cpu(jacobian.gramian(), effective)
            choice = choose(self.gradient, gramian, factors, step.scale, self.index(step.active))
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
        gramian, factors = to_cpu(jacobian.gramian(), effective)
        matrix = jacobian.matrix
        matrix *= (effective / step.scale)[:, None]
        if bool(gramian.isfinite().all()):
            direction = self.gradient.direction(matrix, self.index(step.active))
        else:  # an overflow in fp16: the scaler will see it and leave out the step
            direction = matrix.sum(0)
        found = jacobian.split(step.scaled(direction))
        return seen_by_a_method(gramian.numpy() / step.scale**2), factors, found

    def _approximated(self, step: Step) -> Update:
        """The Gramian at the representation or the last shared layer, then one backward with the weights it gives.

        Different samples have different representations, so the Gramians of batches add up. With several batches this
        is a rehearsal, for no batch's graph is kept.
        """
        seen, several, at_last = Seen(), len(step.batches) > 1, None
        gramian = torch.zeros((), dtype=torch.float64, device=self.device)
        with without_trace(self.model) if several else nullcontext():
            for number in range(len(step.batches)):
                with entering_heads(self.model) as points:
                    losses = self.forwards.losses(step, number, seen)
                if self.last_layer is not None:
                    at_last = at_last or self._at_last_layer(step)
                    self._take(step, losses, at_last, keep_graph=True)
                if self.gradient.at == "representation":
                    if not points:
                        raise ValueError("at: representation: no head is called as a module with what the trunk gives")
                    here = Jacobian(len(step.active), edges=points)
                    self._take(step, losses, here, keep_graph=True)
                    gramian = gramian + here.gramian()
                if several:
                    del losses, points  # and with them the batch's graph
        at_last = self._summed_over_ranks(at_last)
        if self.gradient.at == "representation":
            gramian = self.ranks.sum([gramian])[0]
        elif at_last is not None:
            gramian = at_last.gramian()
        value, weights = self._weigh(step, self.forwards.over_ranks(seen))
        gramian, factors = to_cpu(gramian, step.effective(weights))
        choice = choose(self.gradient, gramian, factors, step.scale, self.index(step.active))
        assert choice.weights is not None
        if several:
            return self._known(step, choice)
        self._backward(step, losses, weights, choice.weights.tolist())
        self._sum_gradients_over_ranks()
        return self._update(step, seen, value, weights, choice, self._norms(step, at_last))

    # Their parts -----------------------------------------------------------------------------------------------------

    def _take(
        self,
        step: Step,
        losses: list[Tensor],
        jacobian: Jacobian,
        heads: list[Row] | None = None,
        keep_graph: bool = False,
    ) -> None:
        """Adds to the rows of `jacobian` and to the gradients of each active task's head; all times the scale."""
        for k, loss in enumerate(losses):
            head = self.heads[step.active[k]] if heads else []
            points, row = [*jacobian.points, *head], None
            if loss.requires_grad:
                row = torch.autograd.grad(
                    step.scaled(loss),
                    points,
                    retain_graph=keep_graph or k < len(losses) - 1,
                    allow_unused=True,
                )
            found: Row = [None] * len(points) if row is None else list(row)
            jacobian.add(k, found[: len(jacobian.points)])
            if heads:
                heads[k] = plus(heads[k], found[len(jacobian.points) :])
            del row, found  # before the next task's are there

    def _at_last_layer(self, step: Step, layers: Sequence[Layer] = ()) -> Jacobian:
        assert self.last_layer is not None
        return Jacobian(len(step.active), [self.last_layer], layers, memory=self.memory)

    def _weigh(self, step: Step, losses: Tensor) -> tuple[Tensor, Tensor]:
        """F and the loss weights ∂F/∂L [A]; what the weighting learns gets its gradient, times the scale."""
        leaf = losses.detach().requires_grad_()
        value = self.weighting(leaf, self.index(step.active))
        weights, *gradients = torch.autograd.grad(value, [leaf, *self.learned], allow_unused=True)
        for parameter, gradient in zip(self.learned, gradients, strict=True):
            parameter.grad = gradient if gradient is None else step.scaled(gradient)
        return value.detach(), weights

    def _norms(self, step: Step, jacobian: Jacobian | None) -> Tensor | None:
        """For a weighting that asks: the rows' norms [A] at the last shared layer. None after an overflow in fp16."""
        if jacobian is None or self.last_layer is None or not self.weighting.needs_gradient_norms:
            return None
        norms = jacobian.norms(self.last_layer)
        if step.scale == 1:  # then the gradients' own check says whether these are finite
            return norms
        return norms / step.scale if bool(norms.isfinite().all()) else None

    def _update(
        self, step: Step, seen: Seen, value: Tensor, weights: Tensor, choice: Choice | None, norms: Tensor | None
    ) -> Update:
        assert seen.losses is not None
        return Update(step.active, seen.losses, weights, value, seen.extremes, norms, choice)

    def index(self, active: list[int]) -> Active:
        """What takes the values [A] of the active tasks out of a tensor [T]."""
        if len(active) == len(self.tasks):
            return slice(None)
        key = tuple(active)
        if key not in self.indices:
            self.indices[key] = torch.tensor(active, device=self.device)
        return self.indices[key]

    # Over the ranks --------------------------------------------------------------------------------------------------

    def _summed_over_ranks(self, jacobian: Jacobian | None) -> Jacobian | None:
        if jacobian is not None:
            self.ranks.sum_in_place(jacobian.blocks)
            jacobian.reached = [bool(count) for count in self.ranks.total([int(some) for some in jacobian.reached])]
        return jacobian

    def _sum_gradients_over_ranks(self) -> None:
        """Where the model's own backward did not."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        [sums] = self.ranks.sum_rows([[p.grad for p in parameters]], [parameters])
        for parameter, gradient in zip(parameters, sums, strict=True):
            parameter.grad = gradient
