"""Gradients the slow way: each loss's own over the whole step as one batch, and what they make together."""

from itertools import pairwise

import torch
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData
from mtlcluster.config.run import RunConfig
from mtlcluster.data.tensor_data import map_tensors
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.train import prepare

NAMES = ("class", "value", "far")
INDEPENDENT = ("mgda", "upgrad", "cagrad", "aligned_mtl", "nash_mtl")  # of random orders, and smooth enough


def targets_for(samples, missing=False, tasks=NAMES):
    generator = torch.Generator().manual_seed(samples)
    value = torch.randn(samples, generator=generator)
    if missing:
        value[:: samples // 2] = float("nan")
    all_of = {
        "class": torch.randint(3, (samples,), generator=generator),
        "value": value,
        "far": 2 - value.nan_to_num(1.0) + torch.randn(samples, generator=generator),
    }
    return {name: all_of[name] for name in tasks}


def tasks_of(names=NAMES):
    known = [Task.classification("class", 3), Task.regression("value", missing=float("nan")), Task.regression("far")]
    return [task for task in known if task.name in names]


def heads_for(width, names=NAMES):
    return {name: nn.Linear(width, 3 if name == "class" else 1) for name in names}


def trainer_for(model, inputs, folder, method, missing=False, **config):
    """A trainer of `model` whose data are `inputs`; its method as at the first step."""
    names = tuple(model.heads)
    data = TensorData(inputs, targets_for(len(inputs), missing, names))
    problem = Problem(model, tasks_of(names), data, data)
    config = RunConfig(**{"job": "slow", "epochs": 5, "batch_size": len(inputs), "method": method, **config})
    return prepare(lambda: problem, config, folder, Callbacks())


def fresh(trainer, method):
    """The three slots anew, with a generator as at the start of the run."""
    generator = torch.Generator().manual_seed(trainer.generator.initial_seed())
    context = Context(trainer.tasks, generator, trainer.total_steps, trainer.steps_per_epoch)
    return build_method(check_method(method), context, trainer.device)


def batch_of(trainer):
    return trainer.problem.train[slice(None)]


def cut(batch, sizes):
    """Micro-batches of these sizes."""
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    inputs, targets = batch
    return [
        (map_tensors(inputs, lambda t, a=a, b=b: t[a:b]), {k: t[a:b] for k, t in targets.items()})
        for a, b in pairwise(ends)
    ]


def own_losses(model, tasks, batch):
    """[A], of the tasks that have labels, and which these are."""
    inputs, targets = batch
    outputs = model(inputs, [task.name for task in tasks])
    losses, active = [], []
    for i, task in enumerate(tasks):
        known = task.labelled(targets[task.name])
        known = torch.arange(len(targets[task.name])) if known is None else known
        if len(known):
            losses.append(task.loss(outputs[task.name][known].float(), targets[task.name][known]))
            active.append(i)
    return losses, active


def own_gradients(losses, points):
    return [torch.autograd.grad(loss, points, retain_graph=True, allow_unused=True) for loss in losses]


def flat(rows, points):
    """The Jacobian [A, n], float64."""
    return torch.stack(
        [
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(row, points, strict=True)])
            for row in rows
        ]
    ).double()


def combined(rows, weights):
    """Σ a_i g_i of each parameter, None where no task reaches it."""
    found = []
    for column in zip(*rows, strict=True):
        present = [w * g for w, g in zip(weights, column, strict=True) if g is not None]
        found.append(sum(present[1:], present[0]) if present else None)
    return found


def index_of(active, tasks):
    return slice(None) if len(active) == len(tasks) else torch.tensor(active)


def expected(model, tasks, batch, weighting, gradient):
    """Of each trainable parameter by name; also the losses, the loss weights, and the gradient method's weights."""
    losses, active = own_losses(model, tasks, batch)
    index = index_of(active, tasks)
    leaf = torch.stack(losses).detach().requires_grad_()
    weighting.begin_step()
    w = torch.autograd.grad(weighting(leaf, index), leaf)[0].double()
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    rows = own_gradients(losses, parameters)
    inside = [n.startswith("heads.") for n in names]
    shared = [p for p, head in zip(parameters, inside, strict=True) if not head]
    a, direction = torch.ones_like(w), None
    if gradient.needs != "nothing" and shared:
        jacobian = flat([[g for g, head in zip(row, inside, strict=True) if not head] for row in rows], shared)
        weighted = w[:, None] * jacobian
        if gradient.needs == "gramian":
            a = gradient.weights(weighted @ weighted.T, index)
        else:
            direction = iter(gradient.direction(weighted.float(), index).split([p.numel() for p in shared]))
    found = {}
    of_trunk, of_heads = combined(rows, (a * w).tolist()), combined(rows, w.tolist())
    for name, p, head, trunk_gradient, own in zip(names, parameters, inside, of_trunk, of_heads, strict=True):
        if head or direction is None:
            found[name] = own if head else trunk_gradient
        else:
            part = next(direction).view_as(p)
            found[name] = None if trunk_gradient is None else part
    return found, leaf.detach(), w, a


def assert_gradients(model, wanted, rel=1e-4, times=1.0):
    """Each parameter's, relative to the longest of all (what cancels has no precision of its own)."""
    longest = max(float(g.norm()) for g in wanted.values() if g is not None)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or wanted[name] is None:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        error = float((parameter.grad / times - wanted[name]).norm())
        assert error <= rel * max(float(wanted[name].norm()), 0.03 * longest), (name, error, float(wanted[name].norm()))


def seeded(make, *args, **options):
    torch.manual_seed(3)
    return make(*args, **options)


class Plain(MultiTaskModel):
    """A trunk of two linear layers."""

    def __init__(self, into=12, width=20, names=NAMES):
        trunk = nn.Sequential(nn.Linear(into, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        super().__init__(trunk, heads_for(width, names))
