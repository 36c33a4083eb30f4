"""Random generators that data, transforms and models have for themselves: a run goes on exactly, and loader processes
draw other numbers each.
"""

import random
from functools import partial

import numpy as np
import pytest
import torch
from rig.resumes import differing
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate

from mtlcluster import MultiTaskModel, Problem, Task, TensorData
from mtlcluster.training.batches import batches
from mtlcluster.training.resume.own_generators import (
    generator_states,
    own_generators,
    seed_generators,
    set_generator_states,
)

SHARED = np.random.default_rng(0)
DRAWS = {
    "numpy": lambda: np.random.default_rng(0).normal,
    "philox": lambda: np.random.Generator(np.random.Philox(0)).normal,
    "numpy's older": lambda: np.random.RandomState(0).normal,
    "python": lambda: partial(random.Random(0).gauss, 0.0, 1.0),
    "a method written in C": lambda: random.Random(0).random,
    "torch": lambda: TorchDraw(),
    "global numpy": lambda: np.random.normal,
    "global python": lambda: partial(random.gauss, 0.0, 1.0),
}


class TorchDraw:
    __slots__ = ("generator",)

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self):
        return float(torch.randn((), generator=self.generator))


class Noise:
    def __init__(self, draw):
        self.steps = {"noise": [draw]}

    def __call__(self, x):
        return x + float(self.steps["noise"][0]())


class Data(Dataset):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))

    def __init__(self, transform, start=0, stop=64):
        self.transform, self.start, self.stop = transform, start, stop

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, i):
        x = self.x[self.start + i]
        return self.transform(x), {"a": x.sum()}


class Tensors(TensorData):
    """Batch by batch."""

    def __init__(self):
        super().__init__(Data.x, {"a": Data.x.sum(1)})
        self.rng = np.random.default_rng(0)

    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        return inputs + torch.from_numpy(self.rng.normal(size=inputs.shape)).float(), targets


def of_module(x):
    return x + SHARED.normal()


def closing_over():
    rng = np.random.default_rng(0)
    return lambda x: x + rng.normal()


class Collate:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, samples):
        inputs, targets = default_collate(samples)
        return inputs + self.rng.normal(), targets


def identity(x):
    return x


PLACES = {
    **{name: lambda draw=draw: (Data(Noise(draw())), None) for name, draw in DRAWS.items()},
    "subset": lambda: (Subset(Data(Noise(DRAWS["numpy"]())), range(64)), None),
    "two": lambda: (ConcatDataset([Data(Noise(DRAWS["numpy"]()), 0, 32), Data(Noise(DRAWS["torch"]()), 32)]), None),
    "module": lambda: (Data(of_module), None),
    "closure": lambda: (Data(closing_over()), None),
    "collate": lambda: (Data(identity), Collate()),
    "tensors": lambda: (Tensors(), None),
}


class OwnNoise(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x * (1 + 0.1 * float(self.draw())) if self.training else x


def build(place, workers=0, layer=nn.Identity):
    def made():
        data, collate = PLACES[place]()
        model = MultiTaskModel(nn.Sequential(nn.Linear(4, 4), layer()), {"a": nn.Linear(4, 1)})
        return Problem(model, [Task.regression("a")], data, Data(Noise(DRAWS["numpy"]())), None, collate, workers)

    return made


@pytest.mark.parametrize("place", PLACES)
def test_what_the_data_draw_is_the_same_after_a_stop(place, tmp_path):
    assert differing(build(place), tmp_path) == []


@pytest.mark.parametrize("place", ["numpy", "closure", "collate"])
def test_with_loader_processes_too(place, tmp_path):
    assert differing(build(place, workers=2), tmp_path, epochs=2) == []


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"collate"}))
@pytest.mark.parametrize("workers", [0, 2])
def test_no_two_batches_or_epochs_have_the_same_noise(place, workers):
    parts = list(torch.arange(64).split(16))
    first = [
        float((inputs - Data.x[part])[0, 0])
        for epoch in (1, 2)
        for part, (inputs, _) in zip(parts, batches(PLACES[place]()[0], parts, 0, epoch, None, workers), strict=True)
    ]
    assert len({round(number, 4) for number in first}) == 8


@pytest.mark.parametrize("draw", DRAWS)
def test_what_a_model_draws_goes_on(draw, tmp_path):
    def layer():
        return OwnNoise(DRAWS[draw]())

    assert differing(build("closure", layer=layer), tmp_path) == []


def test_every_kind_can_be_seeded_and_its_state_restored():
    kinds = [np.random.default_rng(1), np.random.Generator(np.random.MT19937(1)), np.random.RandomState(1),
             random.Random(1), torch.Generator()]  # fmt: skip
    found = own_generators({"all": kinds}, kinds, random.SystemRandom(), torch.default_generator)
    assert found == kinds
    drawn = []
    for _ in range(2):
        seed_generators(found, 5)
        own = torch.rand((), generator=found[4])
        drawn.append([*(one.normal() for one in found[:3]), found[3].random(), float(own)])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 5
    states = generator_states(found)
    after = [one.normal() for one in found[:3]]
    set_generator_states(found, states)
    assert [one.normal() for one in found[:3]] == after
