"""Buffers that come into being in training, change their shape in it or are not persistent: a run goes on exactly, and
its best model can be evaluated.
"""

import pytest
import torch
from rig.resumes import SETTINGS, Stop, differing, stopped
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import RunConfig
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.early_checks import Foreseen
from mtlcluster.training.resume.checkpoint import Checkpoints, Unfit
from mtlcluster.training.train import prepare


class Late(nn.Module):
    """Has a buffer that is None until the first forward."""

    persistent = True

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None, persistent=self.persistent)

    def forward(self, x):
        if self.mean is None:
            self.mean = x.detach().mean(0)
        return x - self.mean


class LateNotPersistent(Late):
    persistent = False


class Registered(nn.Module):
    """Has a buffer that the first forward makes."""

    def forward(self, x):
        if not hasattr(self, "mean"):
            self.register_buffer("mean", x.detach().mean(0))
        return x - self.mean


class Emptied(nn.Module):
    """Has a buffer that is removed after some steps."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(3, 4))

    def forward(self, x):
        if self.shift is None:
            return x
        shift = self.shift[0]
        if self.training:
            self.shift = self.shift[1:].clone() if len(self.shift) > 1 else None
        return x + shift


class Bank(nn.Module):
    """Has a buffer that grows."""

    def __init__(self):
        super().__init__()
        self.register_buffer("bank", torch.zeros(1, 4))

    def forward(self, x):
        if self.training:
            self.bank = torch.cat([self.bank, x.detach().mean(0, keepdim=True)])
        return x - self.bank.mean(0)


class Double(nn.Module):
    """Has a buffer that becomes float64."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().double().mean(0)
        return x - self.mean.float()


class NotPersistent(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


class InPlace(NotPersistent):
    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return x - self.mean


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LazyBatchNorm1d(), nn.LazyLinear(4)

    def forward(self, x):
        return self.linear(self.norm(x))


class Normed(nn.Module):
    """Parametrizations keep buffers of their own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.other = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))

    def forward(self, x):
        return self.other(self.linear(x))


KINDS = [Late, LateNotPersistent, Registered, Emptied, Bank, Double, NotPersistent, InPlace, Lazy, Normed]


def build(*layers):
    def made():
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        data = TensorData(x, {"a": x.sum(1)})
        trunk = nn.Sequential(nn.Linear(4, 4), *(layer() for layer in layers), nn.Dropout(0.1))
        return Problem(MultiTaskModel(trunk, {"a": nn.Linear(4, 1)}), [Task.regression("a")], data, data, data)

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_goes_on_exactly_and_its_best_model_is_whole(kind, tmp_path):
    assert differing(build(kind), tmp_path) == []
    history = train(build(kind), SETTINGS, tmp_path / "whole")
    trainer = prepare(build(kind), RunConfig(job="x", **SETTINGS), tmp_path / "whole", Callbacks())
    trainer.load_best(history["info"]["best"]["step"])
    assert trainer.evaluate(trainer.problem.test).values["a/loss"] == history["series"]["test/a/loss"]["value"][-1]


def test_ahead_of_the_first_step_nothing_is_made(tmp_path):
    made = build(Late, Registered)()
    trainer = prepare(lambda: made, RunConfig(job="x", **SETTINGS), tmp_path, Callbacks())
    trainer.foresee(1)
    trainer.evaluate.try_out(trainer.problem.validation)
    assert made.model.trunk[1].mean is None
    assert not hasattr(made.model.trunk[2], "mean")


class LateParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_parameter("scale", None)

    def forward(self, x):
        if self.scale is None:
            self.scale = nn.Parameter(torch.ones(4))
        return x * self.scale


class LateLayer(nn.Module):
    def forward(self, x):
        if not hasattr(self, "linear"):
            self.linear = nn.Linear(4, 4)
        return self.linear(x)


@pytest.mark.parametrize(("kind", "name"), [(LateParameter, "trunk.1.scale"), (LateLayer, "trunk.1.linear.weight")])
def test_a_parameter_that_would_never_be_trained_is_refused_after_the_first_step(kind, name, tmp_path):
    asked = Stop()
    with pytest.raises(Foreseen, match=f"'{name}' in its first step.*make it in the job's build"):
        train(build(kind), SETTINGS, tmp_path, asked)
    assert asked.asked == 0


def test_another_model_is_refused_with_its_first_difference(tmp_path):
    stopped(build(Bank), tmp_path, 6)
    with pytest.raises(Unfit, match=r"another model than the one in the checkpoint: .*trunk\.2\.weight.*--restart"):
        train(build(Bank, lambda: nn.Linear(4, 4)), SETTINGS, tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").newest()[0]["step"] == 4
