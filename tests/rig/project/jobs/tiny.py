"""A job for tests: small, but with everything that resume could trip over: dropout, batch norm, missing labels, random
augmentation, and tasks of every kind."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from mtlcluster import MultiTaskModel, Problem, Task, TensorData


@dataclass
class Data:
    samples: int = 150
    noisy: bool = False  # sample by sample, with noise drawn anew each time
    workers: int = 0
    broken: bool = False  # one input is no number
    path: str = ""
    metrics: bool = True  # without, torchmetrics is not imported, which takes two seconds


@dataclass
class Model:
    width: int = 8
    slow: float = 0.0  # seconds per forward


class Noisy(Dataset):
    def __init__(self, data: TensorData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        inputs, targets = self.data[index]
        return inputs + 0.1 * torch.randn_like(inputs), targets


class Trunk(nn.Sequential):
    slow = 0.0

    def forward(self, inputs):
        if self.slow:
            import time

            time.sleep(self.slow)
        return super().forward(inputs)


def make(samples: int, seed: int) -> TensorData:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 6, generator=generator)
    a = inputs[:, :3].argmax(1)
    a[torch.rand(samples, generator=generator) < 0.2] = -1
    c = 5 * inputs.sum(1)
    c[torch.rand(samples, generator=generator) < 0.3] = float("nan")
    return TensorData(inputs, {"a": a, "b": (inputs[:, 0] > 0).float(), "c": c})


def build(data: Data, model: Model) -> Problem:
    train = make(data.samples, 1)
    if data.broken:
        train.inputs[7] = float("inf")
    trunk = Trunk(
        nn.Linear(6, model.width),
        nn.BatchNorm1d(model.width),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(model.width, model.width),
        nn.ReLU(),
    )
    trunk.slow = model.slow
    tasks = [
        Task.classification("a", classes=3, missing=-1),
        Task.binary("b"),
        Task.regression("c", missing=float("nan")),
    ] if data.metrics else [
        Task("a", F.cross_entropy, "classification", missing=-1),
        Task("b", lambda o, target: F.binary_cross_entropy_with_logits(o.flatten(), target), "classification"),
        Task("c", lambda o, target: F.mse_loss(o.flatten(), target), "regression", missing=float("nan")),
    ]  # fmt: skip
    return Problem(
        model=MultiTaskModel(
            trunk, {"a": nn.Linear(model.width, 3), "b": nn.Linear(model.width, 1), "c": nn.Linear(model.width, 1)}
        ),
        tasks=tasks,
        train=Noisy(train) if data.noisy else train,
        validation=Noisy(make(60, 2)) if data.noisy else make(60, 2),
        test=make(60, 3),
        workers=data.workers,
    )
