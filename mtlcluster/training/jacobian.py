"""The tasks' gradients with respect to the shared parameters: multiplied with each other and combined where they lie,
never put into one matrix unless a method asks for it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtlcluster.training.linear import Layer

IN_CACHE = 2**17        # numbers, half a megabyte: what a core's own cache holds
HALF = (torch.float16, torch.bfloat16)
Row = list[Tensor | None]       # of one task, by point; None: the task does not reach it


class Jacobian:
    """The gradients of A tasks (rows) at several points: parameters, of linear `layers` the outputs in their place, or
    whatever else gradients can be taken of.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter | GradientEdge], layers: Sequence[Layer] = (), tasks: int | None = None
    ) -> None:
        """tasks: puts the rows of so many into one matrix [A, n] as they come, so that none is there twice; n is the
        sum of the parameters' sizes, and zero stands where a task does not reach one.
        """
        known = {id(parameter) for layer in layers for parameter in layer.parameters()}
        self.layers = layers
        self.plain = [parameter for parameter in parameters if id(parameter) not in known]
        self.points: list[Any] = [*(layer.output for layer in layers), *self.plain]
        self.rows: list[Row] = []
        self.matrix: Tensor | None = None
        if tasks is not None:
            self.sizes = [point.numel() for point in self.plain if isinstance(point, nn.Parameter)]
            one = next(point for point in self.plain if isinstance(point, nn.Parameter))
            self.matrix = torch.zeros(tasks, sum(self.sizes), dtype=one.dtype, device=one.device)

    def append(self, row: Row) -> None:
        """Takes in the next task's gradients."""
        if self.matrix is not None:
            parts = self.matrix[len(self.rows)].split(self.sizes)
            for part, gradient in zip(parts, row, strict=True):
                if gradient is not None:
                    part.copy_(gradient.flatten())
            row = [None if gradient is None else part for part, gradient in zip(parts, row, strict=True)]
        self.rows.append(row)

    def plus(self, other: "Jacobian | None") -> "Jacobian":
        """The sum with one of other samples, where neither has layers."""
        if other is not None and self.matrix is not None and other.matrix is not None:
            self.matrix += other.matrix
        elif other is not None:
            self.rows = [plus(row, more) for row, more in zip(self.rows, other.rows, strict=True)]
        return self

    def norms(self, parameter: nn.Parameter) -> Tensor:
        """Of the rows [A] at one of the parameters; zero where a task does not reach it."""
        places = {id(point): i for i, point in enumerate(self.points)}
        places |= {id(layer.module.weight): i for i, layer in enumerate(self.layers)}
        place = places[id(parameter)]
        rows = [row[place] for row in self.rows]
        if place < len(self.layers):
            return self.layers[place].norms(rows)
        norms = [parameter.new_zeros(()) if row is None else torch.linalg.vector_norm(row) for row in rows]
        return torch.stack(norms)

    def gramian(self) -> Tensor:
        """The inner products of the rows [A, A], float64, on their device; each point's in the rows' own precision."""
        columns = list(zip(*self.rows, strict=True))
        gramian = _inner_products(columns[len(self.layers) :], len(self.rows))
        for layer, column in zip(self.layers, columns, strict=False):
            gramian = gramian + layer.gramian(column)
        return gramian

    def combine(self, weights: Sequence[float]) -> list[tuple[nn.Parameter, Tensor]]:
        """Σ weights_i rows_i, by parameter, of those that some task reaches."""
        total = scaled(self.rows[0], weights[0])        # in memory of its own: autograd may give one tensor out twice
        for row, weight in zip(self.rows[1:], weights[1:], strict=True):
            both = [(a, b) for a, b in zip(total, row, strict=True) if a is not None and b is not None]
            if both:
                torch._foreach_add_([a for a, _ in both], [b for _, b in both], alpha=weight)
            total = [b * weight if a is None and b is not None else a for a, b in zip(total, row, strict=True)]
        found = list(zip(self.plain, total[len(self.layers) :], strict=True))
        for layer, d in zip(self.layers, total, strict=False):
            if d is not None:
                found += zip(layer.parameters(), layer.gradients(d), strict=True)
        return [(parameter, g) for parameter, g in found if isinstance(parameter, nn.Parameter) and g is not None]


def plus(row: Row, more: Sequence[Tensor | None]) -> Row:
    return [b if a is None else a if b is None else a + b for a, b in zip(row, more, strict=True)]


def scaled(row: Row, weight: float) -> Row:
    """The gradients of a row, times `weight`."""
    present = [gradient for gradient in row if gradient is not None]
    products = iter(torch._foreach_mul(present, weight) if present else ())
    return [None if gradient is None else next(products) for gradient in row]


def _inner_products(columns: Sequence[Sequence[Tensor | None]], tasks: int) -> Tensor:
    """columns: by point, a row of each task."""
    present = [gradient for column in columns for gradient in column if gradient is not None]
    if present and present[0].is_cuda:
        gramian = torch.zeros(tasks, tasks, dtype=torch.float64, device=present[0].device)
        for column in columns:
            gramian += _by_matrix(column)
        return gramian
    gramian = torch.zeros(tasks, tasks, dtype=torch.float64)
    for column in columns:
        reached = [task for task, gradient in enumerate(column) if gradient is not None]
        if len(reached) == tasks:
            gramian += _by_chunks(column)
        elif reached:
            gramian[np.ix_(reached, reached)] += _by_chunks([column[task] for task in reached])
    return gramian


def _by_chunks(column: Sequence[Tensor | None]) -> Tensor:
    """Of a point that all tasks of `column` reach; float64. Memory, which is what limits it, is read once: a product of
    each pair would read every gradient A times, one of matrices would need a copy of all of them.
    """
    flat = _flat(column)
    size = IN_CACHE // len(flat)
    scratch = flat[0].new_empty(min(size, len(flat[0])) * len(flat))
    gramian = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    for parts in zip(*(row.split(size) for row in flat), strict=True):
        chunk = scratch[: len(parts[0]) * len(flat)].view(len(flat), -1)
        torch.stack(parts, out=chunk)
        gramian += chunk @ chunk.T
    return gramian


def _by_matrix(column: Sequence[Tensor | None]) -> Tensor | float:
    """On a GPU, where starting many small products takes longer than a copy."""
    one = next((row for row in column if row is not None), None)
    if one is None:
        return 0.0
    stacked = torch.stack([torch.zeros_like(one) if row is None else row for row in column]).flatten(1)
    stacked = stacked.float() if one.dtype in HALF else stacked
    return (stacked @ stacked.T).double()


def _flat(column: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients that there are as vectors, in the order in which they lie in memory where that is the same for all;
    those of representations in half precision as float32, whose range their products need.
    """
    rows = [row.float() if row.dtype in HALF else row for row in column if row is not None]
    strides = {row.stride() for row in rows}
    if len(strides) != 1:
        return [row.flatten() for row in rows]
    stride = strides.pop()
    order = sorted(range(len(stride)), key=lambda dimension: -stride[dimension])
    return [row.permute(order).flatten() for row in rows]
