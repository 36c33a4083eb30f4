"""A cheap approximation: gradients at one point behind the trunk instead of those of all shared parameters."""

from contextlib import nullcontext

import torch
from torch import Tensor

from mtlcluster.training.gradients.forward import StepData
from mtlcluster.training.gradients.jacobian import Jacobian
from mtlcluster.training.gradients.plain_backward import PlainBackward
from mtlcluster.training.gradients.rehearsal import without_trace
from mtlcluster.training.gradients.representation import entering_heads
from mtlcluster.training.gradients.source import Parts


class ProxyGramian(PlainBackward):
    """The Gramian at the representation or at the last shared layer; then one backward with the factors that it gives.

    Different samples have different representations, so the Gramians of micro-batches add up. With several
    micro-batches a rehearsal finds the Gramian, because no graph of a micro-batch is kept.
    """

    def __init__(self, parts: Parts, data: StepData) -> None:
        super().__init__(parts, data)
        self.of_representation = torch.zeros((), dtype=torch.float64, device=parts.forwards.device)

    def forward(self) -> None:
        with without_trace(self.forwards.model) if self.several else nullcontext():
            for number in range(len(self.data.batches)):
                losses = self._look(number)
                self.graph = [] if self.several else losses
                del losses  # and with them the graph
        self._complete()

    def gramian(self) -> Tensor:
        if self.parts.at_representation:
            return self.forwards.ranks.sum([self.of_representation])[0]
        assert self.at_last is not None
        return self.at_last.gramian()

    def write_gradients(self, weights: Tensor, factors: Tensor | None) -> None:
        self.at_last = None  # what the rehearsal found there is complete
        super().write_gradients(weights, factors)

    def _look(self, number: int) -> list[Tensor]:
        """The losses of a micro-batch, with their graph. All gradients behind the trunk are taken on the way."""
        with entering_heads(self.forwards.model) as points:
            losses = self.forwards.losses(self.data, number, self.result)
        if self.parts.last_layer is not None:
            self.at_last = self.at_last or self.parts.last_layer.jacobian(len(losses))
            self._take(self.at_last, losses)
        if self.parts.at_representation:
            if not points:
                raise ValueError("at: representation: no head is called as a module with what the trunk gives")
            here = Jacobian(len(losses), edges=points)
            self._take(here, losses)
            self.of_representation = self.of_representation + here.gramian()
        return losses

    def _forward(self, number: int) -> list[Tensor]:
        """The losses of a micro-batch once more, after the rehearsal."""
        return self.forwards.losses(self.data, number, self.result)
