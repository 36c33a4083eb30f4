"""The optimization step: from its batches to the gradient of every parameter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster.methods.answers import direction, refuse_not_linear, total_loss
from mtlcluster.methods.base import Active, Gradient, Weighting
from mtlcluster.methods.options import USED_LAST
from mtlcluster.problem import MultiTaskModel, Task
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.gradients.aggregate import Aggregation, aggregate
from mtlcluster.training.gradients.factor_cache import FactorCache, State
from mtlcluster.training.gradients.forward import Autocast, Forwards, StepData
from mtlcluster.training.gradients.last_layer import LastLayer
from mtlcluster.training.gradients.last_used import name_of
from mtlcluster.training.gradients.linear_layers import LinearLayers
from mtlcluster.training.gradients.plain_backward import PlainBackward
from mtlcluster.training.gradients.proxy_gramian import ProxyGramian
from mtlcluster.training.gradients.shared_jacobian import SharedJacobian
from mtlcluster.training.gradients.source import Parts, Source
from mtlcluster.training.seeding import random_state


@dataclass
class StepResult:
    """Result of one computation of the gradients, for the A active tasks that had labels.

    Attributes:
        active: positions of the A tasks.
        index: index that selects the A tasks from a per-task tensor.
        losses: [A], unweighted.
        weights: [A], the loss weights, without the emphasis of shares.
        total: F, the scalar that the weighting makes of the losses.
        extremes: for each micro-batch, the smallest and the largest value of each input tensor and of all outputs.
        norms: [A], norms of the unweighted gradients at the last shared layer, for a weighting that asks for them.
        aggregation: the result of the gradient method. None when it was not asked.
        backwards: the backward passes through the trunk. Those of micro-batches count as one.
        losses_again: computes the losses [A] of the same samples once more, for a weighting that asks for them.
    """

    active: list[int]
    index: Active
    losses: Tensor
    weights: Tensor
    total: Tensor
    extremes: list[Tensor]
    backwards: int
    norms: Tensor | None = None
    aggregation: Aggregation | None = None
    losses_again: Callable[[], Tensor] | None = None


class Backward:
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
        """Chooses the source of the gradients.

        Args:
            model: the model, on the device.
            tasks: all tasks of the run.
            weighting: the weighting method.
            gradient: the gradient method.
            autocast: makes the context of a forward in the run's precision.
            device: the device of the model.
            linear_layers: true if gradients of linear layers may be left out (see linear_layers.py). Autocast and
                compiling forbid it.
            ranks: the processes that train together.
            forwards: runs the model. In a user's own loop it takes the losses from outside.

        Raises:
            ValueError: heads share a parameter, or a task has nothing to train.
        """
        self.model, self.tasks, self.weighting, self.gradient = model, tasks, weighting, gradient
        shared = [p for p in model.shared_parameters() if p.requires_grad]
        heads = [[p for p in model.heads[task.name].parameters() if p.requires_grad] for task in tasks]
        refuse_untrainable(tasks, shared, heads)
        self.learned = list(weighting.parameters())
        self.source = choose_source(gradient, shared)
        self.cache = FactorCache(gradient.every)
        one_backward = self.source is PlainBackward
        self.forwards = forwards(
            model, tasks, autocast, device, gradient.context.generator, ranks, reduces=one_backward
        )
        self.visible = shared if linear_layers and ranks.size == 1 else []
        by_layers = self.visible if self.source is SharedJacobian and gradient.needs == "gramian" else []
        self.is_linear_checked = False  # once: to look at the weights makes the CPU wait for the device
        self.parts = Parts(
            self.forwards, shared, heads, LinearLayers(model, by_layers), None,
            needs_norms=weighting.needs_gradient_norms, needs_losses=not weighting.linear,
            at_representation=gradient.at == "representation",
        )  # fmt: skip
        self.gradient_layer: str | None = None  # the layer at which the tasks' gradients are taken, once it is known
        if weighting.needs_gradient_norms or gradient.at == "last_layer":
            layer = weighting.layer if weighting.needs_gradient_norms else gradient.layer
            self._look_at(None if layer == USED_LAST else layer)
            if layer == USED_LAST and not model.names_last_shared_layer:  # the first step finds it
                self.gradient_layer = None
                self.forwards.watch()

    def __call__(
        self,
        batches: list[Any],
        active: Sequence[int],
        scale: float = 1.0,
        shares: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> StepResult | None:
        """Computes the gradients of one step.

        Args:
            batches: pairs (inputs, targets) on the CPU, one for each micro-batch.
            active: positions of the active tasks.
            scale: factor of the losses before the backward (fp16). The gradients keep it.
            shares: see Schedule.shares.
            sizes: sizes of the whole batches when these are one rank's parts of them.

        Returns:
            What was found, or None, without gradients, when no active task has a label.
        """
        random = random_state() if self.weighting.needs_losses_after else None
        self.weighting.begin_step()
        data = self.forwards.prepare(batches, active, scale, shares, sizes)
        if data is None:
            return None
        if self.parts.last_layer is not None and self.gradient_layer is None:
            self._look_at(self.forwards.last_used(data))
        factors = self.cache.get(data.active)  # of an earlier step, with `every`
        kind = self.source if factors is None else PlainBackward
        source = kind(self.parts, data)
        source.forward()
        losses, aggregation = source.losses, None
        total, weights = self._weigh(data, losses)
        if kind is PlainBackward and len(batches) > 1 and not self.is_linear_checked:
            refuse_not_linear(self.weighting, weights)
            self.is_linear_checked = True
        emphasized = data.emphasized(weights)
        if kind is PlainBackward:
            source.write_gradients(emphasized, factors)
        elif self.gradient.needs == "jacobian":
            aggregation = source.write_direction(emphasized, lambda rows: direction(self.gradient, rows, data.index))
        else:
            aggregation = aggregate(self.gradient, source.gramian(), emphasized, data.index, scale)
            source.write_gradients(emphasized, aggregation.factors)
        if source.losses is not losses:  # those of the forwards that were made for the gradients
            total, weights = self._weigh(data, source.losses)
        again = None if random is None else partial(self.forwards.rehearse, data, random)
        return StepResult(
            data.active, data.index, source.losses, weights, total, source.result.extremes, source.backwards,
            source.norms, aggregation, again,
        )  # fmt: skip

    def learn(self, result: StepResult) -> None:
        """Lets the methods learn from a step, after the optimizer has made it."""
        self.weighting.observe_losses(result.losses, result.index)
        if result.norms is not None:
            self.weighting.observe_gradients(result.losses, result.norms, result.index)
        if result.losses_again is not None:
            self.weighting.observe_losses_after(result.losses, result.losses_again(), result.index)
        self.cache.step_made(result.active, result.aggregation)

    def leave_ranks(self) -> None:
        """From now on this rank computes with its own samples only."""
        self.forwards.leave_ranks()

    def state_dict(self) -> State:
        return {**self.cache.state_dict(), "gradient_layer": self.gradient_layer}

    def load_state_dict(self, state: State) -> None:
        self.cache.load_state_dict(state)
        if self.parts.last_layer is None:
            return
        if "gradient_layer" not in state and self.gradient_layer is None:  # older ones took the layer registered last
            self._look_at(None)
        elif state.get("gradient_layer") is not None:
            self._look_at(state["gradient_layer"])

    def _look_at(self, layer: str | None) -> None:
        """Takes gradients at a layer from now on.

        Args:
            layer: its name. None: the model's `last_shared_layer`, else the layer registered last.

        Raises:
            ValueError: it is no trainable shared layer.
        """
        weight = self.model.last_shared_weight(layer)
        self.gradient_layer = name_of(self.model, weight)
        alone = LinearLayers(self.model, self.visible if self.parts.needs_norms else [], only=weight)
        self.parts.last_layer = LastLayer(weight, alone)
        self.forwards.end_watch()
        if self.source is SharedJacobian and self.gradient.needs == "gramian":
            self.parts.linear_layers = LinearLayers(self.model, [p for p in self.visible if p is not weight])

    def _weigh(self, data: StepData, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Asks the weighting. What it learns gets its gradient, times the scale.

        Args:
            data: the step.
            losses: [A].

        Returns:
            F, and the loss weights ∂F/∂L [A].
        """
        leaf = losses.detach().requires_grad_()
        total = total_loss(self.weighting, leaf, data.index)
        weights, *gradients = torch.autograd.grad(total, [leaf, *self.learned], allow_unused=True)
        for parameter, gradient in zip(self.learned, gradients, strict=True):
            parameter.grad = gradient if gradient is None else data.scaled(gradient)
        return total.detach(), weights


def choose_source(gradient: Gradient, shared: Sequence[nn.Parameter]) -> type[Source]:
    """The class of the source of gradients, for a gradient method and the trainable shared parameters of the model."""
    if gradient.needs == "nothing" or not shared:
        return PlainBackward
    if gradient.needs == "jacobian" or gradient.at == "shared":
        return SharedJacobian
    return ProxyGramian


def refuse_untrainable(
    tasks: Sequence[Task], shared: Sequence[nn.Parameter], heads: Sequence[Sequence[nn.Parameter]]
) -> None:
    """Checks the trainable parameters.

    Raises:
        ValueError: heads share a parameter, or a task has nothing to train.
    """
    if len({id(p) for head in heads for p in head}) < sum(len(head) for head in heads):
        raise ValueError("heads share a parameter with each other: what several tasks share belongs to the trunk")
    if idle := [task.name for task, head in zip(tasks, heads, strict=True) if not (shared or head)]:
        raise ValueError(f"nothing to train for {', '.join(idle)}: the trunk is frozen, and so is its head")
