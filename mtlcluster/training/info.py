"""The `info` of a history: a description of the run, apart from the values that it computed."""

import platform
import resource
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mtlcluster._version import __version__
from mtlcluster.config.run import RunConfig
from mtlcluster.methods.catalog import method_label
from mtlcluster.problem import MultiTaskModel, Task


def describe(
    config: RunConfig, run: str, model: MultiTaskModel, tasks: Sequence[Task], device: torch.device
) -> dict[str, Any]:
    """The part of `info` that stays the same from a run's beginning to its end.

    Args:
        config: The run's configuration.
        run: The run's name.
        model: The run's model.
        tasks: The tasks that train.
        device: The device on which the run trains.
    """
    given = config.model_dump()
    origin = given.pop("origin", {})
    shared = sum(p.numel() for p in model.shared_parameters())
    return {
        "sweep": origin.get("sweep", ""),
        "run": run,
        "cluster": origin.get("cluster", ""),
        "varied": origin.get("varied", {}),
        "seed": config.seed,
        "method": method_label(config.method),
        "config": given,
        "tasks": [
            {"name": t.name, "kind": t.kind, "metrics": {name: t.direction(name) for name in t.metrics}} for t in tasks
        ],
        "device": device_name(device),
        "parameters": {"trunk": shared, "heads": sum(p.numel() for p in model.parameters()) - shared},
        "versions": {
            "mtlcluster": __version__, "python": platform.python_version(),
            "torch": str(torch.__version__), "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        "command": " ".join(sys.argv[:1]),
    }  # fmt: skip


def device_name(device: torch.device) -> str:
    """The name of the GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def peak_memory(device: torch.device) -> float:
    """The most bytes that were in use so far: on the GPU, or else by this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
