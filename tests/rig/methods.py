"""Methods made as the loop makes them, for some tasks, with a random generator of a known seed."""

import torch

from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method
from mtlcluster.problem import Task

TASKS = [Task.classification("a", 3), Task.binary("b"), Task.regression("c")]
ALL = slice(None)
REGRESSIONS = [Task.regression(f"task {i}") for i in range(20)]


def make(method, seed=0, tasks=TASKS):
    context = Context(tasks, torch.Generator().manual_seed(seed), total_steps=10, steps_per_epoch=5)
    return build_method(check_method(method), context, torch.device("cpu"))


def make_gradient(gradient, tasks, seed=0):
    context = Context(REGRESSIONS[:tasks], torch.Generator().manual_seed(seed), total_steps=10, steps_per_epoch=5)
    return build_method(check_method({"gradient": gradient}), context, torch.device("cpu"))[2]
