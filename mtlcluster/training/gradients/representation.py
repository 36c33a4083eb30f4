"""Finds the representation: the tensors that enter a model's heads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from mtlcluster.data.tensor_data import tensors_in
from mtlcluster.problem import MultiTaskModel


@contextmanager
def entering_heads(model: MultiTaskModel) -> Iterator[list[GradientEdge]]:
    """Yields a list to which each tensor adds its edge of the graph when a head is called with it, each tensor once.

    Compiled models, and heads that are not called as modules, hide these tensors: the list stays empty.
    """
    edges: list[GradientEdge] = []
    seen: list[Tensor] = []

    def note(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for tensor in tensors_in([args, kwargs]):
            if tensor.requires_grad and all(tensor is not other for other in seen):
                seen.append(tensor)
                edges.append(get_gradient_edge(tensor))  # now, for the head may change it in place

    handles = [head.register_forward_pre_hook(note, with_kwargs=True) for head in model.heads.values()]
    try:
        yield edges
    finally:
        for handle in handles:
            handle.remove()
