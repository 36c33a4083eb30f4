"""Errors that say little by themselves are told in one sentence all the same."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.training.batch_check import BatchError
from mtlcluster.training.error_place import sentence

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Data(Dataset):
    def __init__(self, give):
        self.give = give

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return self.give(i)


def build(give, **more):
    model = MultiTaskModel(nn.Linear(4, 4), {"a": nn.Linear(4, 1)})
    kept = TensorData(X, {"a": X.sum(1)})
    return Problem(model, [Task.regression("a")], Data(give), kept, **more)


def raises(error, first=0):
    def give(i):
        if i >= first:
            raise error
        return X[i], {"a": X[i].sum()}

    return give


def said(give, folder, **more):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        train(lambda: build(give, **more), {"epochs": 2, "batch_size": 8}, folder)
    return sentence(caught.value, Path(__file__).parent)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_without_words(workers, tmp_path):
    assert said(raises(Mute()), tmp_path / "1", workers=workers).startswith("Mute")
    blank = said(raises(ValueError("\n\n  the first\nthe second")), tmp_path / "2", workers=workers)
    assert blank.startswith("ValueError: the first (test_odd_errors.py:")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_that_a_loader_takes_for_the_end_does_not_end_the_epoch(workers, tmp_path):
    words = said(raises(StopIteration(), first=9), tmp_path, workers=workers)
    assert "of 4 batches: a sample or collate raises StopIteration" in words


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda i: (X[i], {"a": X[i].sum()}, 1), r"a pair \(inputs, targets\), found a list of 3"),
        (lambda i: {"x": X[i]}, r"a pair \(inputs, targets\), found a dict"),
        (lambda i: (X[i], X[i].sum()), "targets should be a dict by task, found a Tensor"),
    ],
)
def test_samples_of_another_shape(give, words, tmp_path):
    with pytest.raises(BatchError, match=words):
        train(lambda: build(give), {"epochs": 2, "batch_size": 8}, tmp_path)
