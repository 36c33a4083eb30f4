"""Numbers that a model keeps outside buffers and `get_extra_state` are named in a note, and nothing that is tried ahead
of the first step changes them.
"""

import pytest
import torch
from rig.resumes import SETTINGS, Stop, differing
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train


class Counts(nn.Module):
    counts_always = True

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.width, self.seen = 4, None

    def forward(self, x):
        self.calls += self.training or self.counts_always
        self.seen = x.detach()
        return x * min(1.0, self.calls / 10)


class Means(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(4)

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x - self.mean


class Tells(Counts):
    counts_always = False

    def get_extra_state(self):
        return self.calls

    def set_extra_state(self, state):
        self.calls = state


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += self.training
        return x * (self.calls / 10).clamp(max=1)


def build(layer):
    def made():
        x = torch.randn(65, 4, generator=torch.Generator().manual_seed(0))
        data = TensorData(x, {"a": x.sum(1)})
        trunk = nn.Sequential(nn.Linear(4, 4), layer(), nn.BatchNorm1d(4))
        return Problem(MultiTaskModel(trunk, {"a": nn.Linear(4, 1)}), [Task.regression("a")], data, data)

    return made


@pytest.mark.parametrize(("layer", "name"), [(Counts, "trunk.1.calls"), (Means, "trunk.1.mean")])
def test_they_are_named(layer, name, tmp_path):
    told = Stop()
    train(build(layer), {**SETTINGS, "last_batch": "drop"}, tmp_path, told)
    assert [note for note in told.notes if note.startswith(f"training changes {name} of the model, which no check")]


@pytest.mark.parametrize("layer", [Tells, Buffered])
def test_what_a_checkpoint_keeps_goes_on_and_needs_no_note(layer, tmp_path):
    told = Stop()
    train(build(layer), {**SETTINGS, "last_batch": "drop"}, tmp_path / "1", told)
    assert told.notes == []
    assert differing(build(layer), tmp_path / "2", last_batch="drop") == []


def test_what_is_tried_ahead_counts_nothing(tmp_path):
    made = build(Counts)()
    counted = []
    made.model.trunk[1].register_forward_hook(lambda module, *_: counted.append((module.training, module.calls)))
    train(lambda: made, {**SETTINGS, "steps": 1, "epochs": None, "last_batch": "drop"}, tmp_path)
    first_step = next(i for i, (training, _) in enumerate(counted) if training)
    assert first_step > 0
    assert counted[first_step] == (True, 1)
