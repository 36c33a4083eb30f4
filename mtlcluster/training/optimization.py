"""The optimizer and its learning rate over the training."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mtlcluster.config.run import Optimizer, Scheduler
from mtlcluster.problem import MultiTaskModel

NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
    nn.modules.batchnorm._NormBase, nn.modules.instancenorm._InstanceNorm,
)  # fmt: skip


def make_optimizer(config: Optimizer, model: MultiTaskModel, weighting: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over trunk, heads and what the weighting learns; biases, norms and the weighting without decay."""
    groups = [
        *_groups("trunk", config, [p for p in model.named_parameters() if not p[0].startswith("heads.")], model),
        *_groups("heads", config, [p for p in model.named_parameters() if p[0].startswith("heads.")], model),
    ]
    if learned := list(weighting.parameters()):
        groups.append({"params": learned, "lr": config.lr, "weight_decay": 0.0, "part": "weighting"})
    for group in groups:
        group["base_lr"] = group["lr"]
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for g in groups for p in g["params"])
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=fused)


def _groups(part: str, config: Optimizer, named: list[tuple[str, nn.Parameter]], model: nn.Module) -> Iterator[Any]:
    own = config.groups.trunk if part == "trunk" else config.groups.heads
    lr = config.lr if own.lr is None else own.lr
    decay = config.weight_decay if own.weight_decay is None else own.weight_decay
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    trainable = [p for _, p in named if p.requires_grad]
    for weight_decay, chosen in (
        (decay, [p for p in trainable if p.ndim > 1 and id(p) not in norms]),
        (0.0, [p for p in trainable if p.ndim <= 1 or id(p) in norms]),
    ):
        if chosen:
            yield {"params": chosen, "lr": lr, "weight_decay": weight_decay, "part": part}


class LearningRate:
    """Sets each group's learning rate: its own, times the warm-up, times the schedule's factor at this step."""

    def __init__(self, config: Scheduler, optimizer: torch.optim.Optimizer, total_steps: int) -> None:
        self.config, self.optimizer, self.total = config, optimizer, total_steps
        self.warmup = round(config.warmup * total_steps)
        self.plateau = 1.0      # by how much `plateau` has lowered the rate so far
        self.waited = 0         # validations without a better value, since then

    def factor(self, step: int) -> float:
        """Of step `step`, from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        if self.config.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.config.name == "step":
            return self.config.factor ** int(step / self.total / self.config.every + 1e-9)
        return self.plateau

    def set(self, step: int) -> None:
        factor = self.factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def of(self, part: str) -> float:
        """The present rate of "trunk" or "heads", in 1; NaN where all of it is frozen."""
        return next((group["lr"] for group in self.optimizer.param_groups if group["part"] == part), math.nan)

    def observe_validation(self, better: bool) -> None:
        self.waited = 0 if better else self.waited + 1
        if self.config.name == "plateau" and self.waited >= self.config.patience:
            self.plateau *= self.config.factor
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"plateau": self.plateau, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.plateau, self.waited = state["plateau"], state["waited"]
