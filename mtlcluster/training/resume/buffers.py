"""All buffers of a model, also those that its own `state_dict` leaves out, such as non-persistent ones."""

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


class Buffers:
    """All buffers of a model by name: also those that are not persistent, are None, or were made by training.

    They are restored before the model's own state, which then finds each buffer in its saved shape.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        values, not_persistent = {}, []
        for place, module in self.model.named_modules():
            for name, buffer in module._buffers.items():
                path = f"{place}.{name}" if place else name
                values[path] = None if buffer is None else buffer.detach()
                if name in module._non_persistent_buffers_set:
                    not_persistent.append(path)
        return {"values": values, "not_persistent": not_persistent}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the buffers, except of modules that the model lacks: the model's own state will report them."""
        modules = dict(self.model.named_modules())
        device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        for path, kept in state["values"].items():
            place, _, name = path.rpartition(".")
            module = modules.get(place)
            if module is None or (name not in module._buffers and hasattr(module, name)):
                continue
            if name not in module._buffers:
                module.register_buffer(name, None, path not in state["not_persistent"])
            own = module._buffers[name]
            if is_lazy(own):  # it takes its shape from the model's own state
                continue
            if own is None or kept is None or (own.shape, own.dtype) != (kept.shape, kept.dtype):
                module._buffers[name] = None if kept is None else kept.to(device, copy=True)
            elif not torch.equal(own.cpu(), kept.cpu()):
                own.copy_(kept)
