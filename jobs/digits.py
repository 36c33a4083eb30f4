"""Two scanned digits side by side, and four tasks about them.

The tasks are: which digit is left, which is right, whether their sum is even, and by how much the left one is larger.
The last is a regression, whose loss is on another scale than the others.

The scans are the 1,797 of scikit-learn (8 × 8 pixels; nothing is downloaded). They are split into training, validation
and test scans before they are paired, so that no scan is in two of the three.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}  # of the scans


@dataclass
class Digits:
    """Options of the data."""

    pairs: int = 4000  # for training; a quarter as many for validation, and for the test
    split_seed: int = 0  # of splitting and pairing the scans
    unlabelled: float = 0.0  # the share of training pairs without a label of `difference`


@dataclass
class Network:
    """Options of the model."""

    width: int = 128
    depth: int = 2
    dropout: float = 0.1


def build(data: Digits, model: Network) -> Problem:
    """Makes the problem: a multilayer perceptron as the trunk, and a linear head for each task."""
    parts = load(data)
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(model.depth):
        layers += [nn.Linear(model.width if i else 128, model.width), nn.ReLU(), nn.Dropout(model.dropout)]
    outputs = {"left": 10, "right": 10, "even_sum": 1, "difference": 1}
    return Problem(
        model=MultiTaskModel(nn.Sequential(*layers), {task: nn.Linear(model.width, n) for task, n in outputs.items()}),
        tasks=[
            Task.classification("left", classes=10),
            Task.classification("right", classes=10),
            Task.binary("even_sum"),
            Task.regression("difference", missing=float("nan")),
        ],
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
    )


def load(options: Digits) -> dict[str, TensorData]:
    """Loads the pairs.

    Returns:
        For "train", "validation" and "test": images [N, 8, 16] with values from 0 to 1, and the four targets [N].
    """
    scans = load_digits()
    generator = np.random.default_rng(options.split_seed)
    order = generator.permutation(len(scans.target))
    ends = np.cumsum([int(share * len(order)) for share in SHARES.values()])[:-1]
    parts = {}
    for name, own in zip(SHARES, np.split(order, ends), strict=True):
        count = options.pairs if name == "train" else options.pairs // 4
        left, right = generator.choice(own, count), generator.choice(own, count)
        difference = (scans.target[left] - scans.target[right]).astype(np.float32)
        if name == "train":
            difference[generator.random(count) < options.unlabelled] = np.nan
        parts[name] = TensorData(
            torch.from_numpy(np.concatenate([scans.images[left], scans.images[right]], axis=2) / 16).float(),
            {
                "left": torch.from_numpy(scans.target[left]),
                "right": torch.from_numpy(scans.target[right]),
                "even_sum": torch.from_numpy((scans.target[left] + scans.target[right] + 1) % 2).float(),
                "difference": torch.from_numpy(difference),
            },
        )
    return parts
