"""Labels of every whole-number kind train alike; class numbers that are fractions are refused with the task's name."""

import pytest
import torch
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train

WHOLE = ["int8", "int16", "int32", "int64", "uint8"]


def build(dtype, weights=None, missing=None):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = TensorData(x, {"topic": (torch.arange(64) % 3).to(getattr(torch, dtype))})
    task = Task.classification("topic", 3, missing, weights)
    return Problem(MultiTaskModel(nn.Linear(4, 4), {"topic": nn.Linear(4, 3)}), [task], data, data, data)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0)])
def test_they_train_alike(weights, tmp_path):
    losses = {}
    for dtype in WHOLE:
        history = train(lambda dtype=dtype: build(dtype, weights), {"epochs": 2, "batch_size": 16}, tmp_path / dtype)
        names = ("validation/topic/loss", "validation/topic/f1", "train/topic/loss")
        losses[dtype] = [history["series"][name]["value"].tolist() for name in names]
    assert all(found == losses["int64"] for found in losses.values())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_fractions_are_refused_with_what_to_do(dtype, missing, tmp_path):
    words = rf"targets of 'topic' should be class numbers .* found torch\.{dtype}: convert them by \.long\(\)"
    with pytest.raises(TypeError, match=words):
        train(lambda: build(dtype, missing=missing), {"epochs": 2, "batch_size": 16}, tmp_path)
