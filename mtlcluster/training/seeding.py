"""Seeds, saves and restores the global random generators of a process: Python's, numpy's and torch's."""

import random
from typing import Any

import numpy as np
import torch

RandomState = dict[str, Any]


def mix_seed(purpose: str, *parts: int) -> int:
    """Mixes several numbers into one 63-bit seed. Similar numbers and different purposes give unrelated seeds."""
    low, high = np.random.SeedSequence([len(parts), *parts, *purpose.encode()]).generate_state(2)
    return (int(high) << 32 | int(low)) >> 1


def seed_everything(seed: int) -> None:
    """Seeds the generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # all devices


def random_state() -> RandomState:
    """The state of the generators, in types that `torch.load(weights_only=True)` accepts."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    assert isinstance(keys, np.ndarray)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: RandomState) -> None:
    """Restores a state that `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
