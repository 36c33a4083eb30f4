"""A job for tests whose model skips a layer at random, on each rank as that one draws."""

import torch
import torch.nn.functional as F
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.often = nn.Linear(6, 8), nn.Linear(8, 8)

    def forward(self, inputs):
        hidden = torch.tanh(self.first(inputs))
        return hidden + self.often(hidden) if not self.training or torch.rand(()) < 0.5 else hidden


def squared(outputs, targets):
    return F.mse_loss(outputs.flatten(), targets)


def build():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=generator)
    data = TensorData(inputs, {"a": inputs.sum(1), "b": inputs[:, 0]})
    model = MultiTaskModel(Trunk(), {"a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})
    return Problem(model, [Task("a", squared, "regression"), Task("b", squared, "regression")], data, data)
