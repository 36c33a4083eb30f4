"""Random generators that a job's objects own, such as `self.rng = np.random.default_rng(0)`."""

import random
import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from mtlcluster.training.seeding import mix_seed

Generator = np.random.Generator | np.random.RandomState | random.Random | torch.Generator
GLOBAL = (np.random.mtrand._rand, random._inst, torch.default_generator)
# Limits of the search: how deep containers are nested, how many items of one are looked at, how many objects in all
DEEPEST, WIDEST, MOST = 8, 100, 20_000
CLOSED = (str, bytes, int, float, complex, type(None), type, types.ModuleType, np.ndarray, torch.Tensor)


def own_generators(*roots: Any) -> list[Generator]:
    """Finds the generators that objects own.

    Args:
        roots: The objects to begin with. Their attributes, containers and closures are searched, and the globals of the
            modules that define their classes and functions.

    Returns:
        The generators, in the same order in every process, without the global generators.
    """
    found: list[Generator] = []
    seen: dict[int, Any] = {id(one): one for one in GLOBAL}  # values are kept alive, or an id might be used again
    to_see = [(root, 0) for root in roots]
    for value, depth in to_see:
        if id(value) in seen or isinstance(value, CLOSED):
            continue
        seen[id(value)] = value
        if isinstance(value, Generator):
            if not isinstance(value, random.SystemRandom):
                found.append(value)
        elif depth < DEEPEST and len(to_see) < MOST:
            to_see += [(inner, depth + 1) for inner in _inside(value)]
    return found


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from list(value.values())[:WIDEST]
    elif isinstance(value, (list, tuple)):
        yield from value[:WIDEST]
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.BuiltinMethodType):  # of a class written in C, such as random.Random(0).random
        yield value.__self__
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))
        yield from value.__defaults__ or ()
        yield from (one for one in value.__globals__.values() if isinstance(one, Generator))
    else:
        yield from list(getattr(value, "__dict__", {}).values())
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            yield from (getattr(value, name, None) for name in ([slots] if isinstance(slots, str) else slots))
            module = getattr(sys.modules.get(kind.__module__), "__dict__", {})
            yield from (one for one in list(module.values()) if isinstance(one, Generator))


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def seed_generators(generators: list[Generator], seed: int) -> None:
    """Seeds each generator with a seed of its own."""
    for number, one in enumerate(generators):
        own = mix_seed("own generator", seed, number)
        if isinstance(one, np.random.Generator):
            one.bit_generator.state = type(one.bit_generator)(own).state
        elif isinstance(one, torch.Generator):
            one.manual_seed(own)
        else:
            one.seed(own % 2**32)


def generator_states(generators: list[Generator]) -> list[Any]:
    """The state of each generator."""
    return [_state(one) for one in generators]


def _state(one: Generator) -> Any:
    if isinstance(one, np.random.Generator):
        return one.bit_generator.state
    if isinstance(one, np.random.RandomState):
        return one.get_state(legacy=False)
    return one.get_state() if isinstance(one, torch.Generator) else one.getstate()


def set_generator_states(generators: list[Generator], states: list[Any]) -> None:
    """Puts each generator into its state of `states`, which `generator_states` has returned."""
    for one, state in zip(generators, states, strict=True):
        if isinstance(one, np.random.Generator):
            one.bit_generator.state = state
        elif isinstance(one, (np.random.RandomState, torch.Generator)):
            one.set_state(state)
        else:
            one.setstate(state)
