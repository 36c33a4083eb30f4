"""A job for tests whose data are drawn by other processes: how many, started how, and for an epoch or for good."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mtlcluster import MultiTaskModel, Problem, Task


@dataclass
class Data:
    workers: int = 1
    start: str = "fork"
    persistent: bool = False  # the dataset asks a loader of its own, which lives as long as it does
    slow: float = 0.0  # seconds per training sample
    metrics: bool = False  # there are none; said to every job of these tests
    hang: str = ""  # a training sample is waited for until this file is there


class Samples(Dataset):
    def __init__(self, count: int, seed: int, slow: float = 0.0, hang: str = "") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs, self.slow, self.hang = torch.randn(count, 6, generator=generator), slow, hang

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int):
        import time

        time.sleep(self.slow)
        while self.hang and not Path(self.hang).exists():
            time.sleep(0.1)
        inputs = self.inputs[index]
        return inputs + 0.1 * torch.randn(6), {"a": inputs.sum(), "b": inputs[0]}


class Plain(Samples):
    """Draws nothing: a loader that lives on can't be seeded batch by batch."""

    def __getitem__(self, index: int):
        _, targets = super().__getitem__(index)
        return self.inputs[index], targets


class Served(Dataset):
    """Has its samples from processes that go on between epochs."""

    def __init__(self, samples: Samples, workers: int) -> None:
        self.samples, self.wanted = samples, []
        self.loader = DataLoader(
            samples, sampler=self.wanted, batch_size=None, num_workers=workers, persistent_workers=True,
            generator=torch.Generator(),        # its own: it must not draw from the run's
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, indices):
        self.wanted[:] = indices
        return list(self.loader)


def squared(outputs, targets):
    return F.mse_loss(outputs.flatten(), targets)


def build(data: Data) -> Problem:
    torch.multiprocessing.set_start_method(data.start, force=True)
    kind = Plain if data.persistent else Samples
    train, validation = kind(48, 1, data.slow, data.hang), kind(16, 2)
    if data.persistent:
        train, validation = Served(train, data.workers), Served(validation, data.workers)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3))
    model = MultiTaskModel(trunk, {"a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})
    tasks = [Task("a", squared, "regression"), Task("b", squared, "regression")]
    return Problem(model, tasks, train, validation, workers=0 if data.persistent else data.workers)
