"""The Jacobian: the gradients of the tasks, as rows of one matrix.

A gradient is copied into the matrix while the CPU cache still holds it. The matrix is read once for the inner products
of its rows and once to combine them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtlcluster.training.distributed import Ranks, Row
from mtlcluster.training.gradients.linear_layers import Layer, stacked

BLOCK = 4096  # columns that are multiplied at a time: those of ten tasks fit into the cache of one core
HALF = (torch.float16, torch.bfloat16)


class Memory:
    """Memory of a matrix that is filled at every step.

    On the CPU it is allocated once and kept: page faults cost more than the copy. On a GPU, torch keeps it.
    """

    def __init__(self) -> None:
        self.kept = torch.empty(0)

    def matrix(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        size = rows * columns
        if device.type != "cpu":
            return torch.empty(rows, columns, dtype=dtype, device=device)
        if len(self.kept) < size or self.kept.dtype != dtype:
            self.kept = torch.empty(0)  # frees the old memory before there is new
            self.kept = torch.empty(size, dtype=dtype)
        return self.kept[:size].view(rows, columns)


class Jacobian:
    """The gradients of A tasks (rows) at several points.

    Attributes:
        points: where gradients are taken: the outputs of linear layers in place of their parameters, other edges of the
            graph, and the other parameters, in this order.
        matrix: [A, n], gradients of the other parameters, in their order; zero where a task does not reach one.
        reached: for each of the other parameters, whether any task reaches it.
    """

    def __init__(
        self,
        tasks: int,
        parameters: Sequence[nn.Parameter] = (),
        layers: Sequence[Layer] = (),
        edges: Sequence[GradientEdge] = (),
        memory: Memory | None = None,
    ) -> None:
        """Makes an empty Jacobian.

        Args:
            tasks: A, the number of rows.
            parameters: parameters whose gradients are wanted.
            layers: linear layers whose parameters' gradients are represented by those of the outputs.
            edges: other places in the graph whose gradients are wanted.
            memory: memory of the matrix. None: it is allocated anew.
        """
        known = {id(parameter) for layer in layers for parameter in layer.parameters()}
        self.layers = layers
        self.parameters = [parameter for parameter in parameters if id(parameter) not in known]
        kept = [*(layer.output for layer in layers), *edges]
        self.points: list[Any] = [*kept, *self.parameters]
        self.rows: list[Row] = [[None] * len(kept) for _ in range(tasks)]  # gradients at layers and edges
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self.blocks = self._blocks(tasks, memory or Memory())  # the matrix, padded with zeros to whole blocks
        self.matrix = self.blocks[:, : sum(self.sizes)]
        self.filled = [False] * tasks
        self.reached = [False] * len(self.parameters)

    def _blocks(self, tasks: int, memory: Memory) -> Tensor:
        if not self.parameters:
            return torch.zeros(tasks, 0)
        dtype = torch.float32
        for parameter in self.parameters:
            dtype = torch.promote_types(dtype, parameter.dtype)
        size = sum(self.sizes)
        blocks = memory.matrix(tasks, -(-size // BLOCK) * BLOCK, dtype, self.parameters[0].device)
        blocks[:, size:] = 0
        return blocks

    def add_gradients(
        self, losses: Sequence[Tensor], more: Sequence[Sequence[nn.Parameter]] = (), keep_graph: bool = False
    ) -> list[Row]:
        """Adds the gradients of the A losses to the rows. Called once for each micro-batch.

        Args:
            losses: A scalars with their graph.
            more: for each loss further parameters that only this loss reaches. Empty: there are none.
            keep_graph: true if the graph is needed afterwards.

        Returns:
            For each loss its gradients of `more`.
        """
        found: list[Row] = []
        for k, loss in enumerate(losses):
            points = [*self.points, *(more[k] if more else ())]
            row: Row = [None] * len(points)
            if loss.requires_grad:
                keep = keep_graph or k < len(losses) - 1
                row = list(torch.autograd.grad(loss, points, retain_graph=keep, allow_unused=True))
            self._add(k, row[: len(self.points)])
            found.append(row[len(self.points) :])
            del row  # before the gradients of the next task are there
        return found

    def _add(self, task: int, row: Row) -> None:
        """Adds gradients at the points to a row."""
        kept = len(self.rows[task])
        self.rows[task] = plus(self.rows[task], row[:kept])
        parts = self._parts(self.matrix[task])
        for i, (part, gradient) in enumerate(zip(parts, row[kept:], strict=True)):
            self.reached[i] |= gradient is not None
            if self.filled[task] and gradient is not None:
                part += gradient
            elif gradient is not None:
                part.copy_(gradient)
            elif not self.filled[task]:
                part.zero_()
        self.filled[task] = True

    def sum_over_ranks(self, ranks: Ranks) -> None:
        """Adds the matrices of all ranks. There are no layers then: their gradients cannot be added."""
        ranks.sum_in_place(self.blocks)
        self.reached = [bool(count) for count in ranks.total([int(some) for some in self.reached])]

    def _parts(self, row: Tensor) -> list[Tensor]:
        """A row [n] as one view for each parameter."""
        pieces = zip(row.split(self.sizes), self.parameters, strict=True)
        return [part.view(parameter.shape) for part, parameter in pieces]

    def norms(self, parameter: nn.Parameter) -> Tensor:
        """Norms [A] of the gradients at one of the parameters; zero where a task does not reach it."""
        for layer, column in zip(self.layers, zip(*self.rows, strict=True), strict=False):
            if layer.module.weight is parameter:
                return layer.norms(column)
        place = next(i for i, other in enumerate(self.parameters) if other is parameter)
        norms: Tensor = torch.linalg.vector_norm(self.matrix.split(self.sizes, 1)[place], dim=1)
        return norms

    def gramian(self) -> Tensor:
        """Inner products [A, A] of the rows, float64, on their device. Inside a block they have the rows' precision."""
        tasks = len(self.rows)
        blocks = self.blocks.view(tasks, self.blocks.shape[1] // BLOCK, BLOCK).transpose(0, 1)
        gramian = torch.bmm(blocks, blocks.mT).sum(0, dtype=torch.float64)
        for i, column in enumerate(zip(*self.rows, strict=True)):
            own = self.layers[i].gramian(column) if i < len(self.layers) else _products(column)
            gramian = gramian.to(own.device) + own if isinstance(own, Tensor) else gramian
        return gramian

    def combine(self, weights: Sequence[float]) -> list[tuple[nn.Parameter, Tensor]]:
        """The parameters that some task reaches, each with its part of Σ weights_i rows_i.

        The parts are views of the first row of the matrix, which is overwritten.
        """
        total = self.matrix[0].mul_(weights[0])
        for row, weight in zip(self.matrix[1:], weights[1:], strict=True):
            total.add_(row, alpha=weight)
        found = self.split(total)
        for layer, column in zip(self.layers, zip(*self.rows, strict=True), strict=False):
            d: Tensor | None = None
            for row, weight in zip(column, weights, strict=True):
                if row is not None:
                    d = row * weight if d is None else d.add_(row, alpha=weight)
            if d is not None:
                found += [(p, g) for p, g in zip(layer.parameters(), layer.gradients(d), strict=True)]
        return found

    def split(self, direction: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """The parameters that some task reaches, each with its part of a direction [n]."""
        pieces = zip(self.parameters, self._parts(direction), self.reached, strict=True)
        return [(parameter, part.to(parameter.dtype)) for parameter, part, reached in pieces if reached]


def plus(row: Row, more: Row) -> Row:
    """The sum of two rows."""
    return [b if a is None else a if b is None else a + b for a, b in zip(row, more, strict=True)]


def times(row: Row, weight: float) -> Row:
    """The gradients of a row, times `weight`."""
    present = [gradient for gradient in row if gradient is not None]
    products = iter(torch._foreach_mul(present, weight) if present else ())
    return [None if gradient is None else next(products) for gradient in row]


def _products(column: Sequence[Tensor | None]) -> Tensor | float:
    """Inner products [A, A] of the tasks' gradients at one point, float64.

    Gradients in half precision are multiplied as float32, whose range they need.
    """
    rows = stacked(column)
    if rows is None:
        return 0.0
    rows = rows.flatten(1).float() if rows.dtype in HALF else rows.flatten(1)
    return (rows @ rows.T).double()
