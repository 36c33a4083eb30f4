"""One backward of the weighted sum of the losses. `sum` uses it, and every method whose factors are known."""

import torch
from torch import Tensor

from mtlcluster.training.gradients.forward import ForwardResult, StepData
from mtlcluster.training.gradients.jacobian import Jacobian
from mtlcluster.training.gradients.source import Parts, Source


class PlainBackward(Source):
    """One backward for each micro-batch, without gradients of single tasks.

    With several micro-batches the graph of one lives only until its backward. The weights must then be known before the
    first forward: a rehearsal finds the losses when the weights depend on them.
    """

    def __init__(self, parts: Parts, data: StepData) -> None:
        super().__init__(parts, data)
        self.several = len(data.batches) > 1
        self.graph: list[Tensor] = []  # the losses of the only micro-batch, with their graph
        self.at_last: Jacobian | None = None  # gradients at the last shared layer, where somebody asks for them

    def forward(self) -> None:
        if not self.several:
            self.graph = self._forward(0)
            self._complete()
        elif self.parts.needs_losses:
            self.losses = self.forwards.rehearse(self.data)
        else:
            self.losses = torch.full((len(self.data.active),), torch.nan, device=self.forwards.device)  # unknown

    def write_gradients(self, weights: Tensor, factors: Tensor | None) -> None:
        if not self.several:
            self._backward(self.graph, weights, factors)
        else:
            self.result = ForwardResult()
            for number in range(len(self.data.batches)):
                self._backward(self._forward(number), weights, factors)
            self._complete()
        if factors is not None:
            self._sum_over_ranks()

    def _forward(self, number: int) -> list[Tensor]:
        """The losses of a micro-batch, with their graph. GradNorm's gradients are taken on the way."""
        last = self.parts.last_layer
        if not self.parts.needs_norms or last is None:
            return self.forwards.losses(self.data, number, self.result)
        with last.linear_layers.watched() as layers:
            losses = self.forwards.losses(self.data, number, self.result)
        if self.at_last is None:
            usable = [] if self.several else last.linear_layers.usable(layers, losses)
            self.at_last = last.jacobian(len(losses), usable)
        self._take(self.at_last, losses)
        return losses

    def _take(self, jacobian: Jacobian, losses: list[Tensor]) -> None:
        """Adds the gradients of a micro-batch, and keeps its graph."""
        jacobian.add_gradients([self.data.scaled(loss) for loss in losses], keep_graph=True)

    def _complete(self) -> None:
        """Sums losses and GradNorm's gradients over the ranks, once all forwards are made."""
        self.losses = self.forwards.over_ranks(self.result)
        last = self.parts.last_layer
        if self.at_last is not None and last is not None:
            self.at_last.sum_over_ranks(self.forwards.ranks)
            if self.parts.needs_norms:
                self.norms = last.norms(self.at_last, self.data.scale)

    def _backward(self, losses: list[Tensor], weights: Tensor, factors: Tensor | None) -> None:
        total, along = torch.stack(losses), self.data.scaled(weights)
        if factors is None:
            total.backward(self.forwards.ranks.unaveraged(along))
            return
        heads = [p for i in self.data.active for p in self.parts.heads[i]]
        if heads:
            torch.autograd.backward([total], [along], retain_graph=True, inputs=heads)
        if self.parts.shared:
            along = along * factors.to(along)
            torch.autograd.backward([total], [along], inputs=self.parts.shared)

    def _sum_over_ranks(self) -> None:
        """Sums the gradients over the ranks where the model's own backward did not."""
        parameters = [p for p in self.forwards.model.parameters() if p.requires_grad]
        [sums] = self.forwards.ranks.sum_rows([[p.grad for p in parameters]], [parameters])
        for parameter, gradient in zip(parameters, sums, strict=True):
            parameter.grad = gradient
