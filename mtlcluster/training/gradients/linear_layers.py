"""Gramians of linear layers without the gradients of their weights.

A layer has the input A [N, in]. The gradient of its output is D_i [N, out] for task i. The gradient of the weight is
then D_iᵀA, that of the bias D_iᵀ1, and so

    ⟨D_iᵀA, D_jᵀA⟩ + ⟨D_iᵀ1, D_jᵀ1⟩ = ⟨D_i, (AAᵀ + 1) D_j⟩        Σ a_i D_iᵀA = (Σ a_i D_i)ᵀA

This is cheaper when N is small beside in and out: autograd need not compute weight gradients, about half the work of a
backward, and none is kept. It holds for layers that are called once in a forward and share no parameter. `LinearLayers`
sees that by hooks. A weight that is also used as a plain tensor is found by the check at a layer's first use.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

EXACT = 1e-3  # of a gradient's length: far above rounding, far below what a use that was not seen would add


@dataclass
class Layer:
    """One call of a linear layer.

    Attributes:
        module: the layer.
        inputs: its input [N, in], detached.
        version: torch's version of that input; another one later says that it was changed in place.
        output: the edge of the graph at which the gradient of its output arrives.
    """

    module: nn.Linear
    inputs: Tensor
    version: int
    output: GradientEdge

    def parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters(recurse=False))

    def pays(self, tasks: int) -> bool:
        """True if the formula above is cheaper than computing the weight gradients of so many tasks."""
        n, (out, into) = len(self.inputs), self.module.weight.shape
        return n * into + tasks * n * out < tasks * into * out

    def gramian(self, rows: Sequence[Tensor | None]) -> Tensor | float:
        """The layer's part of the Gramian [A, A], float64. rows: D_i of each task, [N, out], [..., out] or [out]."""
        d = stacked(rows)
        if d is None:
            return 0.0
        d = d.reshape(len(rows), -1, d.shape[-1])
        kernel = self.inputs @ self.inputs.T
        if self.module.bias is not None:
            kernel += 1
        return (d.flatten(1) @ (kernel @ d).flatten(1).T).double()

    def norms(self, rows: Sequence[Tensor | None]) -> Tensor:
        """Norms [A] of the tasks' gradients of the weight. rows: see `gramian`; the norm is zero for None."""
        d = stacked(rows)
        if d is None:
            return self.inputs.new_zeros(len(rows))
        d = d.reshape(len(rows), -1, d.shape[-1])
        return (torch.bmm(d, d.mT) * (self.inputs @ self.inputs.T)).sum((1, 2)).clamp_min(0).sqrt()

    def gradients(self, d: Tensor) -> list[Tensor]:
        """Gradients of weight and bias from the gradient `d` of the output."""
        d = d.reshape(-1, d.shape[-1])
        return [d.T @ self.inputs] if self.module.bias is None else [d.T @ self.inputs, d.sum(0)]


def stacked(rows: Sequence[Tensor | None]) -> Tensor | None:
    """The tasks' gradients at one point as [A, …], zeros for a task that does not reach it. None if no task does."""
    one = next((row for row in rows if row is not None), None)
    return None if one is None else torch.stack([torch.zeros_like(one) if row is None else row for row in rows])


class LinearLayers:
    """The linear layers of a model that this way is possible for."""

    def __init__(self, model: nn.Module, shared: Iterable[nn.Parameter], only: nn.Parameter | None = None) -> None:
        """Finds the layers whose parameters are all shared by the tasks and belong to no other module.

        Args:
            model: the model.
            shared: the shared parameters that may be left out.
            only: take the layer with this weight alone, if there is one.
        """
        owners: dict[int, int] = {}
        for module in model.modules():
            for parameter in module._parameters.values():
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
        own = {id(parameter) for parameter in shared if owners[id(parameter)] == 1}
        self.modules = [
            module
            for module in model.modules()
            if type(module) is nn.Linear
            and module._parameters.keys() == {"weight", "bias"}  # torch's old weight norm has others in their place
            and all(id(p) in own for p in module.parameters(recurse=False))
            and (only is None or module.weight is only)
        ]
        self.trusted: set[int] = set()  # ids of modules whose gradients the check found to be as above
        self.refused: set[int] = set()

    @contextmanager
    def watched(self) -> Iterator[list[Layer]]:
        """Yields a list; when the context ends, it holds the layers that were called exactly once inside."""
        calls: list[Layer] = []
        layers: list[Layer] = []

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            if output.requires_grad:
                assert isinstance(module, nn.Linear)
                inputs = args[0] if args else kwargs["input"]
                flat = inputs.detach().reshape(-1, inputs.shape[-1])
                calls.append(Layer(module, flat, flat._version, get_gradient_edge(output)))

        watched = [module for module in self.modules if id(module) not in self.refused]
        handles = [module.register_forward_hook(note, with_kwargs=True) for module in watched]
        try:
            yield layers
        finally:
            for handle in handles:
                handle.remove()
        times = [id(call.module) for call in calls]
        layers += [call for call in calls if times.count(id(call.module)) == 1]

    def usable(self, layers: list[Layer], losses: Sequence[Tensor]) -> list[Layer]:
        """The layers for which this way is cheaper and exact. Each is checked against autograd at its first use."""
        layers = [layer for layer in layers if layer.pays(len(losses)) and layer.inputs._version == layer.version]
        new = [layer for layer in layers if id(layer.module) not in self.trusted]
        if new:
            self._check(new, losses)
        return [layer for layer in layers if id(layer.module) in self.trusted]

    def _check(self, layers: list[Layer], losses: Sequence[Tensor]) -> None:
        """Compares the weight gradients of the losses' sum with those that autograd computes."""
        total = torch.stack(list(losses)).sum()
        uses = _uses(total)
        layers = [layer for layer in layers if uses[id(layer.module.weight)]]  # else it is not known yet
        if not layers:
            return
        points: list[Any] = [*(layer.output for layer in layers), *(layer.module.weight for layer in layers)]
        found = torch.autograd.grad(total, points, retain_graph=True, allow_unused=True)
        for layer, d, weight in zip(layers, found[: len(layers)], found[len(layers) :], strict=True):
            exact = (
                d is not None
                and weight is not None
                and all(uses[id(parameter)] == 1 for parameter in layer.parameters())
                and bool((layer.gradients(d)[0] - weight).norm() <= EXACT * weight.norm())
            )
            (self.trusted if exact else self.refused).add(id(layer.module))


def _uses(total: Tensor) -> Counter[int]:
    """The number of uses of each parameter, by id, in the graph of `total`. A use counts even if its gradient is 0."""
    uses: Counter[int] = Counter()
    waiting = [total.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for before, _ in node.next_functions if node is not None else ():
            if before is not None and hasattr(before, "variable"):
                uses[id(before.variable)] += 1
            elif before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)
    return uses
