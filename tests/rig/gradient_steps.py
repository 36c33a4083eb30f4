"""Single steps of a trainer, and the methods to try them with."""

import torch
from rig.plain_training import Plain

from mtlcluster.methods.catalog import method, names

ALL = [0, 1, 2]
GRADIENTS = [{"name": n, **({"aggregator": "UPGrad"} if n == "torchjd" else {})} for n in names("gradient")]
NEEDING = [g for g in GRADIENTS if method("gradient", g["name"]).constants["needs"] != "nothing"]
GRAMIAN = [g for g in NEEDING if method("gradient", g["name"]).constants["needs"] == "gramian"]
WEIGHTINGS = [
    {"name": n, **({"weights": {"class": 2.0, "value": 0.5, "far": 1.0}} if n == "static" else {})}
    for n in names("weighting")
]


class OneRepresentation(Plain):
    def points(self, inputs):
        return (self.trunk(inputs),)


def name_of(value):
    return value["name"] if isinstance(value, dict) and "name" in value else str(value)


def data(samples=12, into=12):
    return torch.randn(samples, into, generator=torch.Generator().manual_seed(1))


def step(trainer, batches, active=ALL, **options):
    trainer.optimizer.zero_grad()
    trainer.weighting.zero_grad()
    return trainer.update(batches, active, **options)


def gradients(trainer):
    return {n: None if p.grad is None else p.grad.clone() for n, p in trainer.model.named_parameters()}
