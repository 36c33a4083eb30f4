"""The tasks' gradients with respect to the shared parameters, in one matrix: copied there while the cache still holds
them, read once for their inner products and once to be combined.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtlcluster.training.gradients.linear_layers import Layer, stacked

BLOCK = 4096  # columns that are multiplied at a time: of ten tasks, what a core's own cache holds
HALF = (torch.float16, torch.bfloat16)
Row = list[Tensor | None]  # of one task, by point; None: the task does not reach it


class Memory:
    """Of a matrix that is filled anew at every step. On the CPU it is kept, for fresh pages cost the kernel more time
    than it takes to write on them; a GPU's allocator keeps its own.
    """

    def __init__(self) -> None:
        self.kept = torch.empty(0)

    def matrix(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        size = rows * columns
        if device.type != "cpu":
            return torch.empty(rows, columns, dtype=dtype, device=device)
        if len(self.kept) < size or self.kept.dtype != dtype:
            self.kept = torch.empty(0)  # before there is another
            self.kept = torch.empty(size, dtype=dtype)
        return self.kept[:size].view(rows, columns)


class Jacobian:
    """The gradients of A tasks (rows) at several points: parameters, of linear `layers` the outputs in their place, and
    `edges`, whatever else gradients can be taken of.

    matrix: [A, n], of the parameters that no layer has, in their order; zero where a task does not reach one.
    reached: by such a parameter, whether any task does.
    """

    def __init__(
        self,
        tasks: int,
        parameters: Sequence[nn.Parameter] = (),
        layers: Sequence[Layer] = (),
        edges: Sequence[GradientEdge] = (),
        memory: Memory | None = None,
    ) -> None:
        known = {id(parameter) for layer in layers for parameter in layer.parameters()}
        self.layers = layers
        self.parameters = [parameter for parameter in parameters if id(parameter) not in known]
        kept = [*(layer.output for layer in layers), *edges]
        self.points: list[Any] = [*kept, *self.parameters]
        self.rows: list[Row] = [[None] * len(kept) for _ in range(tasks)]
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self.blocks = self._blocks(tasks, memory or Memory())
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

    def add(self, task: int, row: Sequence[Tensor | None]) -> None:
        """Gradients of the task in row `task`, by point; several times, where there are several batches."""
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

    def _parts(self, row: Tensor) -> list[Tensor]:
        pieces = zip(row.split(self.sizes), self.parameters, strict=True)
        return [part.view(parameter.shape) for part, parameter in pieces]

    def norms(self, parameter: nn.Parameter) -> Tensor:
        """Of the rows [A] at one of the parameters; zero where a task does not reach it."""
        for layer, column in zip(self.layers, zip(*self.rows, strict=True), strict=False):
            if layer.module.weight is parameter:
                return layer.norms(column)
        place = next(i for i, other in enumerate(self.parameters) if other is parameter)
        norms: Tensor = torch.linalg.vector_norm(self.matrix.split(self.sizes, 1)[place], dim=1)
        return norms

    def gramian(self) -> Tensor:
        """The inner products of the rows [A, A], float64, on their device; those of a block in the rows' precision."""
        tasks = len(self.rows)
        blocks = self.blocks.view(tasks, self.blocks.shape[1] // BLOCK, BLOCK).transpose(0, 1)
        gramian = torch.bmm(blocks, blocks.mT).sum(0, dtype=torch.float64)
        for i, column in enumerate(zip(*self.rows, strict=True)):
            own = self.layers[i].gramian(column) if i < len(self.layers) else _products(column)
            gramian = gramian.to(own.device) + own if isinstance(own, Tensor) else gramian
        return gramian

    def combine(self, weights: Sequence[float]) -> list[tuple[nn.Parameter, Tensor]]:
        """Σ weights_i rows_i, by parameter, of those that some task reaches; it lies in the matrix's first row."""
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
        """direction [n], by parameter, of those that some task reaches."""
        pieces = zip(self.parameters, self._parts(direction), self.reached, strict=True)
        return [(parameter, part.to(parameter.dtype)) for parameter, part, reached in pieces if reached]


def plus(row: Row, more: Sequence[Tensor | None]) -> Row:
    return [b if a is None else a if b is None else a + b for a, b in zip(row, more, strict=True)]


def scaled(row: Row, weight: float) -> Row:
    """The gradients of a row, times `weight`."""
    present = [gradient for gradient in row if gradient is not None]
    products = iter(torch._foreach_mul(present, weight) if present else ())
    return [None if gradient is None else next(products) for gradient in row]


def _products(column: Sequence[Tensor | None]) -> Tensor | float:
    """Of the tasks' gradients at one point, float64; those in half precision as float32, whose range they need."""
    rows = stacked(column)
    if rows is None:
        return 0.0
    rows = rows.flatten(1).float() if rows.dtype in HALF else rows.flatten(1)
    return (rows @ rows.T).double()
