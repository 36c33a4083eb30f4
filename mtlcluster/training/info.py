"""What a history says of its run, beside what was computed."""

import platform
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
    """The part of a history's `info` that stays as it is from a run's beginning to its end. tasks: those that train."""
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
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
