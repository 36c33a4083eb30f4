"""Trainings in this process, stopped and gone on from, to be compared with undisturbed ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlcluster import Problem, train
from mtlcluster.training.callbacks import Callbacks, StopRequested

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 16}


class Stop(Callbacks):
    """Asks for a stop at one question; keeps the notes."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.asked = after, 0
        self.notes: list[str] = []

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == self.after

    def report(self, event: str, **values: Any) -> None:
        self.notes = list(values["notes"])


def stopped(build: Callable[[], Problem], folder: Path, after: int, **settings: Any) -> None:
    """Trains until a question, then stops, and leaves generators elsewhere."""
    try:
        train(build, {**SETTINGS, **settings}, folder, Stop(after))
    except StopRequested:
        torch.manual_seed(after)
        np.random.seed(after)
        return
    raise AssertionError("it was not stopped")


def differing(build: Callable[[], Problem], folder: Path, after: int = 6, **settings: Any) -> list[str]:
    """The series that a run has otherwise when it was stopped on its way."""
    whole = train(build, {**SETTINGS, **settings}, folder / "whole")["series"]
    stopped(build, folder / "stopped", after, **settings)
    again = train(build, {**SETTINGS, **settings}, folder / "stopped")
    assert len(again["info"]["attempts"]) == 2
    assert whole.keys() == again["series"].keys()
    return [name for name in whole if whole[name]["value"].tobytes() != again["series"][name]["value"].tobytes()]
