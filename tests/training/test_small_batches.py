"""What a single sample makes undefined, or an evaluation cannot take, is said before the first step, too."""

import pytest
import torch
import torch.nn.functional as F
from rig.resumes import Stop
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.training.early_checks import Foreseen

X = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))


class Standardized(nn.Module):
    def forward(self, x):
        return (x - x.mean(0)) / x.std(0) if self.training else x


def squared(outputs, targets):
    return F.mse_loss(outputs.flatten(), targets)


def spread(outputs, targets):
    return squared(outputs, targets) + outputs.std()


def build(layer, loss=squared, validation=8, lengths=None):
    def data(length):
        return TensorData(X[:length], {"a": X[:length].sum(1)})

    def made():
        train = data(33)
        if lengths is not None:
            train.lengths = lengths
        model = MultiTaskModel(nn.Sequential(nn.Linear(4, 4), layer()), {"a": nn.Linear(4, 1)})
        return Problem(model, [Task("a", loss, "regression")], train, data(validation))

    return made


@pytest.mark.parametrize(("layer", "loss"), [(Standardized, squared), (nn.Identity, spread)])
def test_a_loss_that_one_sample_makes_nan(layer, loss, tmp_path):
    asked = Stop()
    with pytest.raises(Foreseen, match=r"one sample \(33 in batches of 8\).*the loss of task 'a' is nan.*last_batch"):
        train(build(layer, loss), {"epochs": 2, "batch_size": 8}, tmp_path / "1", asked)
    assert asked.asked == 0
    train(build(layer, loss), {"epochs": 2, "batch_size": 8, "last_batch": "drop"}, tmp_path / "2")


def test_a_last_batch_of_the_validation_that_cannot_be_evaluated(tmp_path):
    def layer():
        return nn.BatchNorm1d(4, track_running_stats=False)

    asked = Stop()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        train(build(layer, validation=9), {"epochs": 2, "batch_size": 8, "last_batch": "drop"}, tmp_path, asked)
    assert asked.asked == 0


@pytest.mark.parametrize("lengths", [list(range(30)), torch.arange(40), torch.ones(33, 1)])
def test_lengths_that_are_not_one_a_sample(lengths, tmp_path):
    with pytest.raises(ValueError, match=r"lengths should be 33 numbers, one a sample, found \["):
        train(build(nn.Identity, lengths=lengths), {"epochs": 2, "batch_size": 8}, tmp_path)
