"""Makes the three objects of a method from its configuration."""

import importlib.util
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from mtlcluster.methods.base import Context, Gradient, Schedule, Weighting
from mtlcluster.methods.catalog import OWN, SLOTS, method
from mtlcluster.methods.source import Method, common_options


def build_method(
    config: dict[str, dict[str, Any]], context: Context, device: torch.device
) -> tuple[Schedule, Weighting, Gradient]:
    """Makes the three slots of a method.

    Args:
        config: the full form, as catalog.check_method gives it.
        context: the run, as the method sees it.
        device: where the state of weighting and gradient method goes. Schedules stay on the CPU.

    Returns:
        The schedule, the weighting and the gradient method.

    Raises:
        ValueError: an option does not fit the tasks, or a class of one's own does not call the `__init__` of its base.
    """
    built = []
    for slot in SLOTS:
        options = {key: value for key, value in config[slot].items() if key != "name"}
        entry = method(slot, config[slot]["name"])
        of_all = {key: options.pop(key) for key in common_options(slot, entry.constants).keys() & options.keys()}
        try:
            made = getattr(_module(entry), entry.class_name)(context, **options)
        except ValueError as error:
            raise ValueError(f"{slot} '{entry.label}': {error}") from None
        if "_modules" not in vars(made):
            raise ValueError(f"{slot} '{entry.label}': its __init__ should begin with super().__init__(context)")
        for key, value in of_all.items():
            setattr(made, key, value)
        built.append(made)
    schedule, weighting, gradient = built
    return schedule, weighting.to(device), gradient.to(device)


def _module(entry: Method) -> ModuleType:
    """The module of a method. One's own file need not lie where Python looks for modules."""
    if OWN not in entry.name:
        return import_module(f"mtlcluster.methods.{entry.slot}s.{entry.name}")
    name = f"own_method_{entry.file.stem}"
    spec = importlib.util.spec_from_file_location(name, entry.file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
