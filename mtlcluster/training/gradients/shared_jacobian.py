"""The tasks' exact gradients with respect to all shared parameters."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from mtlcluster.training.distributed import Row
from mtlcluster.training.gradients.aggregate import Aggregation, cosines_and_norms, to_cpu
from mtlcluster.training.gradients.forward import StepData
from mtlcluster.training.gradients.jacobian import Jacobian, plus, times
from mtlcluster.training.gradients.source import Parts, Source


class SharedJacobian(Source):
    """One backward for each task: the rows of the Jacobian over the shared parameters, and each head's own gradient.

    Of linear layers it takes the gradients of the outputs instead, where that is cheaper (see linear_layers.py).
    """

    def __init__(self, parts: Parts, data: StepData) -> None:
        super().__init__(parts, data)
        self.head_parameters = [parts.heads[i] for i in data.active]
        self.heads: list[Row] = [[None] * len(head) for head in self.head_parameters]  # gradients of the heads
        self.jacobian: Jacobian
        self.backwards = len(data.active)

    def forward(self) -> None:
        for number in range(len(self.data.batches)):
            self._add(number)
        self.heads = self.forwards.ranks.sum_rows(self.heads, self.head_parameters)
        self.jacobian.sum_over_ranks(self.forwards.ranks)
        self.losses = self.forwards.over_ranks(self.result)
        if self.parts.needs_norms and self.parts.last_layer is not None:
            self.norms = self.parts.last_layer.norms(self.jacobian, self.data.scale)

    def _add(self, number: int) -> None:
        """Adds the gradients of a micro-batch."""
        linear = self.parts.linear_layers
        with linear.watched() as layers:
            losses = self.forwards.losses(self.data, number, self.result)
        if number == 0:
            usable = linear.usable(layers, losses) if len(self.data.batches) == 1 else []
            self.jacobian = Jacobian(len(losses), self.parts.shared, usable, memory=self.parts.memory)
        scaled = [self.data.scaled(loss) for loss in losses]
        heads = self.jacobian.add_gradients(scaled, self.head_parameters)
        self.heads = [plus(row, more) for row, more in zip(self.heads, heads, strict=True)]

    def gramian(self) -> Tensor:
        return self.jacobian.gramian()

    def write_gradients(self, weights: Tensor, factors: Tensor | None) -> None:
        own = weights.double().cpu()
        trunk = own if factors is None else factors * own
        self._write(self.jacobian.combine(trunk.tolist()), own.tolist())

    def write_direction(self, weights: Tensor, direction: Callable[[Tensor], Tensor]) -> Aggregation:
        gramian, own = to_cpu(self.jacobian.gramian(), weights)
        matrix, scale = self.jacobian.matrix, self.data.scale
        matrix *= (weights / scale)[:, None]
        overflow = not bool(gramian.isfinite().all())  # in fp16: the gradient scaler will skip the step
        found = matrix.sum(0) if overflow else direction(matrix)
        self._write(self.jacobian.split(self.data.scaled(found)), own.tolist())
        return cosines_and_norms(gramian.numpy() / scale**2)

    def _write(self, trunk: Sequence[tuple[nn.Parameter, Tensor]], heads: Sequence[float]) -> None:
        """Fills the `.grad` of trunk and heads.

        Args:
            trunk: the shared parameters, each with its gradient.
            heads: [A], factors of the heads' gradients.
        """
        for parameter, gradient in trunk:
            parameter.grad = gradient
        for own, row, weight in zip(self.head_parameters, self.heads, heads, strict=True):
            for parameter, scaled in zip(own, times(row, weight), strict=True):
                parameter.grad = scaled
