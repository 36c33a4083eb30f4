"""Forwards that leave no trace: neither in the random generators nor in the model's buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.parameter import is_lazy

from mtlcluster.training.seeding import RandomState, random_state, set_random_state


@contextmanager
def without_trace(model: nn.Module, random: RandomState | None = None) -> Iterator[None]:
    """Restores the random generators and the model's buffers, such as batch norm's statistics, when it ends.

    Inside, the model has copies of its buffers. Lazy layers are an exception: once made, they stay.

    Args:
        model: the model that is called inside.
        random: the state of the random generators to begin with. None: the current one.
    """
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    state = random_state()
    for module, own in buffers:
        module._buffers |= {name: b.clone() for name, b in own.items() if b is not None and not is_lazy(b)}
    if random is not None:
        set_random_state(random)
    try:
        yield
    finally:
        set_random_state(state)
        for module, own in buffers:
            module._buffers.clear()  # also of those that were made inside
            module._buffers.update(own)


def has_lazy_layers(model: nn.Module) -> bool:
    """True if the first forward will make some of the model. That forward must be the one of the first step."""
    return any(is_lazy(tensor) for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
