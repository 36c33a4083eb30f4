"""Finds the shared layer that a model uses last. Layers need not be registered in the order of their use."""

from functools import partial

from torch import nn

from mtlcluster.problem import MultiTaskModel


class LastUsed:
    """Watches the shared modules that own a trainable matrix, from now on.

    A module counts from the beginning of its call: what it calls itself is used later.

    Attributes:
        name: the name of the one that was called last. None: none was called.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self.name: str | None = None
        self.handles = [
            module.register_forward_pre_hook(partial(self._note, name))
            for name, module in model.named_modules()
            if name and name.split(".")[0] != "heads"
        ]

    def end(self) -> None:
        """Removes the hooks."""
        for handle in self.handles:
            handle.remove()

    def _note(self, name: str, module: nn.Module, _inputs: object) -> None:
        if any(p is not None and p.requires_grad and p.ndim > 1 for p in module._parameters.values()):
            self.name = name


def name_of(model: nn.Module, weight: nn.Parameter) -> str:
    """The name of the module that owns a weight."""
    owners = (name for name, module in model.named_modules() if any(p is weight for p in module._parameters.values()))
    return str(next(owners))
