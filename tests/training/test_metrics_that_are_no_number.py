"""A metric that gives no number is named before the first epoch, with what to do; so is any of a metric's mistakes that
one batch of the validation shows.
"""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from rig.resumes import SETTINGS, Stop
from torch import nn
from torch.utils.data import Dataset
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score, MulticlassROC

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import RunConfig
from mtlcluster.training.commands import preflight as checking
from mtlcluster.training.metrics import MetricError


class Gives(Metric):
    higher_is_better = True
    full_state_update = False

    def __init__(self, does, needs=0):
        super().__init__()
        self.does, self.needs = does, needs
        self.add_state("count", torch.tensor(0))

    def update(self, outputs, targets):
        self.count += len(targets)

    def compute(self):
        if self.count < self.needs:
            raise IndexError("too few")
        return self.does()


class Matrix(MulticlassConfusionMatrix):
    higher_is_better = True


class Curve(MulticlassROC):
    higher_is_better = True


def build(metric):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = TensorData(x, {"a": torch.arange(64) % 3})
    task = Task("a", F.cross_entropy, "classification", {"f1": metric}, classes=3)
    return Problem(MultiTaskModel(nn.Linear(4, 4), {"a": nn.Linear(4, 3)}), [task], data, data)


NUMBERS = {
    "half": lambda: torch.tensor(0.5, dtype=torch.float16), "python": lambda: 0.5, "whole": lambda: 1,
    "numpy": lambda: np.float32(0.5), "one": lambda: torch.tensor([[0.5]]), "bool": lambda: True,
    "array": lambda: np.array([0.5]),
}  # fmt: skip
OTHERS = {
    "each class": (lambda: MulticlassF1Score(3, average=None), "it gives 3 values"),
    "matrix": (lambda: Matrix(3), "it gives 9 values"),
    "curve": (lambda: Curve(3), "it gives a tuple of 3"),
    "dict": (lambda: Gives(lambda: {"f": torch.tensor(1.0), "p": 2}), "it gives a dict of f, p"),
    "list": (lambda: Gives(lambda: [0.5]), "it gives a list of 1"),
    "array": (lambda: Gives(lambda: np.ones(2)), "it gives 2 values"),
    "nothing": (lambda: Gives(lambda: None), "it gives a NoneType"),
    "text": (lambda: Gives(lambda: "0.5"), "it gives a str"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_it_is_refused_before_the_first_step(kind, tmp_path):
    metric, words = OTHERS[kind]
    asked = Stop()
    with pytest.raises(MetricError, match=f"metric 'f1' of task 'a': {words}.*, where one number is expected: .*macro"):
        train(lambda: build(metric()), SETTINGS, tmp_path, asked)
    assert asked.asked == 0


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_of_any_kind_is_one(kind, tmp_path):
    assert train(lambda: build(Gives(NUMBERS[kind])), {**SETTINGS, "epochs": 1}, tmp_path)["info"]["finished"]


def test_what_needs_more_than_a_batch_is_no_mistake(tmp_path):
    assert train(lambda: build(Gives(lambda: 0.5, 64)), {**SETTINGS, "epochs": 1}, tmp_path)["info"]["finished"]


def test_a_collection_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"metric 'f1' of task 'a', a MetricCollection, .* metrics one by one"):
        build(MetricCollection([MulticlassAccuracy(3)]))


def test_the_check_finds_it(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    text = (project / "jobs" / "tiny.py").read_text()
    own = """    from torchmetrics.classification import MulticlassF1Score
    tasks[0].metrics['each'] = MulticlassF1Score(3, average=None)
"""
    text = text.replace("    return Problem(", f"{own}    return Problem(")
    (project / "jobs" / "tiny.py").write_text(text)
    config = RunConfig(job="jobs/tiny.py:build")
    (project / "run.yaml").write_text(yaml.safe_dump(config.model_dump()))
    assert checking.main(project, [project / "run.yaml"]) == 1
    assert "failed: metric 'each' of task 'a': it gives 3 values" in capsys.readouterr().out


class OpensLate(Dataset):
    """Like data in a file that is opened at the first sample, which must not be before a loader's process is forked."""

    def __len__(self):
        return 33

    def __getitem__(self, i):
        x = torch.full((4,), float(i))
        return x, {"a": torch.tensor(float(os.getpid())), "b": x.sum()}


def test_with_loader_processes_no_sample_is_read_outside_of_them(tmp_path):
    pids = []

    class Sees(Metric):
        higher_is_better, full_state_update = True, False

        def update(self, outputs, targets):
            pids.extend(targets.int().tolist())

        def compute(self):
            return 0.0

    def made():
        task = Task("a", lambda o, t: F.mse_loss(o.flatten(), o.flatten().detach()), "regression", {"m": Sees()})
        model = MultiTaskModel(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), {"a": nn.Linear(4, 1)})
        return Problem(model, [task], OpensLate(), OpensLate(), workers=1)

    # Its loss is 0 throughout, and no loss is relative to that.
    train(made, {**SETTINGS, "epochs": 1, "last_batch": "drop", "best": {"value": "mean_loss"}}, tmp_path)
    assert len(set(pids)) == 2
    assert os.getpid() not in pids
