"""From a configuration's method to its three objects."""

from importlib import import_module
from typing import Any

import torch

from mtlcluster.methods.base import Context, Gradient, Schedule, Weighting
from mtlcluster.methods.catalog import SLOTS, method


def build_method(
    config: dict[str, dict[str, Any]], context: Context, device: torch.device
) -> tuple[Schedule, Weighting, Gradient]:
    """The schedule, the weighting and the gradient method of a full method configuration, their state on `device`.

    Raises ValueError for an option that does not fit the tasks.
    """
    built = []
    for slot in SLOTS:
        options = {key: value for key, value in config[slot].items() if key != "name"}
        entry = method(slot, config[slot]["name"])
        try:
            built.append(getattr(import_module(entry.module), entry.class_name)(context, **options))
        except ValueError as error:
            raise ValueError(f"{slot} '{entry.name}': {error}") from None
    schedule, weighting, gradient = built
    return schedule, weighting.to(device), gradient.to(device)
