"""Images with labels for every pixel, some missing: a problem of dense tasks, and a plain torch loop that trains it."""

import torch
import torch.nn.functional as F
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData

IMAGES, SIZE = 12, 5
NAN = float("nan")
CONFIG = {
    "batch_size": 4, "accumulate": 3, "epochs": 4, "gradient_clip": None,
    "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.0, "weight_decay": 0.0},
    "scheduler": {"name": "constant", "warmup": 0.0},
}  # fmt: skip


class Model(MultiTaskModel):
    def __init__(self):
        trunk = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh())
        heads = {name: nn.Conv2d(4, channels, 1) for name, channels in CHANNELS.items()}
        super().__init__(trunk, {**heads, "whole": nn.Sequential(nn.Flatten(), nn.Linear(4 * SIZE * SIZE, 3))})


CHANNELS = {"classes": 3, "depth": 1, "normals": 2, "edge": 1}


def data(seed, images=IMAGES):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(images, *shape, generator=generator)

    inputs = draw(2, SIZE, SIZE) * 2 - 1
    field = inputs.sum(1) + 0.1 * draw(SIZE, SIZE)
    targets = {
        "classes": (field > 0).long() + (field > 0.7),
        "depth": field.clone(),
        "normals": torch.stack([field, -field], 1),
        "edge": (field.abs() < 0.5).long(),
        "whole": torch.arange(images) % 3,
    }
    targets["classes"][draw(SIZE, SIZE) < 0.3] = -1
    targets["classes"][: images // 3] = -1  # images without any label
    targets["depth"][draw(SIZE, SIZE) < 0.5] = NAN
    targets["normals"].movedim(1, -1)[draw(SIZE, SIZE) < 0.5] = 0
    targets["normals"][:, 0][draw(SIZE, SIZE) < 0.2] = 0  # not missing, unless the other channel is 0, too
    targets["edge"][2:5, :3] = -1
    targets["whole"][1] = -1
    return inputs, targets


def tasks():
    return [
        Task.classification("classes", 3, missing=-1, dense=True),
        Task.regression("depth", missing=NAN, dense=True),
        Task.regression("normals", missing=0, dense=True),
        Task.binary("edge", missing=-1, dense=True),
        Task.classification("whole", 3, missing=-1),
    ]


def build():
    train, validation = (TensorData(*data(seed)) for seed in (0, 1))
    return Problem(Model(), tasks(), train, validation, validation)


def losses(model, inputs, targets):
    """By task, with torch's own means over the labelled elements of all images; none for a task without any."""
    out = model(inputs, [*CHANNELS, "whole"])
    depth, normals = targets["depth"], targets["normals"]
    has_depth, has_normals = ~depth.isnan(), ~(normals == 0).all(1)
    edge = targets["edge"]
    found = {
        "classes": F.cross_entropy(out["classes"], targets["classes"], ignore_index=-1),
        "depth": F.mse_loss(out["depth"][:, 0][has_depth], depth[has_depth]),
        "normals": (out["normals"] - normals)[has_normals[:, None].expand_as(normals)].square().mean(),
        "edge": F.binary_cross_entropy_with_logits(out["edge"][:, 0][edge >= 0], edge[edge >= 0].float()),
        "whole": F.cross_entropy(out["whole"], targets["whole"], ignore_index=-1),
    }
    return {name: loss for name, loss in found.items() if not loss.isnan()}


def plain_loop(model, steps):
    """Plain gradient descent on the sum of the losses of all images. Returns the losses of each step, by task."""
    (inputs, targets), optimizer, history = data(0), torch.optim.SGD(model.parameters(), lr=0.2), []
    for _ in range(steps):
        found = losses(model, inputs, targets)
        history.append({name: loss.item() for name, loss in found.items()})
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
    return history
