"""Short trainings of the tiny job, in this process."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlcluster.config.run import RunConfig
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.resume.checkpoint import Checkpoints
from mtlcluster.training.train import load_build, train

PROJECT = Path(__file__).with_name("project")
DSG = {"name": "dsg", "tolerance": 0.2, "patience": 1, "worse": 0.01, "every": 3}
DIFFICULTY = {"name": "difficulty_sampling", "every": 3}
METHODS = {
    "equal": "equal",
    "single": {"schedule": {"name": "single", "task": "c"}},
    "round_robin": "round_robin",
    "sequential": {"schedule": {"name": "sequential", "order": ["c", "a", "b"]}},
    "dsg": {"schedule": DSG},
    "difficulty_sampling": {"schedule": DIFFICULTY},
    "static": {"weighting": {"name": "static", "weights": {"c": 0.1}}},
    "uncertainty": "uncertainty",
    "dwa": "dwa",
    "gradnorm": "gradnorm",
    "pcgrad": "pcgrad",
    "gradvac": "gradvac",
    "dsg+gradnorm+pcgrad": {"schedule": DSG, "weighting": "gradnorm", "gradient": "pcgrad"},
    "round_robin+uncertainty": {"schedule": "round_robin", "weighting": "uncertainty"},
    "difficulty_sampling+gradnorm": {"schedule": DIFFICULTY, "weighting": "gradnorm"},
    "difficulty_sampling+pcgrad": {"schedule": DIFFICULTY, "gradient": "pcgrad"},
}


class StopEvery(Callbacks):
    """Asks for a stop at every `period`-th question, once per attempt."""

    def __init__(self, period: int) -> None:
        self.period, self.asked = period, 0

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked % self.period == 0


def tiny(folder: Path, callbacks: Callbacks | None = None, **settings: Any) -> dict[str, Any]:
    config = RunConfig(
        **{"job": "jobs/tiny.py:build", "epochs": 4, "batch_size": 16, "optimizer": {"lr": 0.01}, **settings}
    )
    return train(load_build(config.job, PROJECT, config), config, folder, callbacks)


def tiny_with_stops(folder: Path, period: int, **settings: Any) -> tuple[dict[str, Any], int]:
    """The same, stopped again and again, each attempt from other random states; and how often."""
    for attempt in range(1000):
        torch.manual_seed(attempt)
        np.random.seed(attempt)
        try:
            return tiny(folder, StopEvery(period), **settings), attempt
        except StopRequested:
            continue
    raise AssertionError("it never ended")


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    state, notes = Checkpoints(folder / "checkpoints").newest()
    assert state is not None
    assert not notes
    return state["model"]


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    """The same series, bit for bit."""
    assert left.keys() == right.keys()
    for name in left:
        for key in left[name]:
            assert left[name][key].dtype == right[name][key].dtype
            assert left[name][key].tobytes() == right[name][key].tobytes(), (name, key)
