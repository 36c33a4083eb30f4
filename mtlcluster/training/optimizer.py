"""The optimizer and its learning-rate schedule."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlcluster.config.run import Optimizer, Scheduler
from mtlcluster.problem import MultiTaskModel

NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
    nn.modules.batchnorm._NormBase, nn.modules.instancenorm._InstanceNorm,
)  # fmt: skip


def base_rates(config: Optimizer) -> dict[str, float]:
    """The learning rates of "trunk" and "heads", before warm-up and schedule."""
    own = {"trunk": config.groups.trunk.lr, "heads": config.groups.heads.lr}
    return {part: config.lr if lr is None else lr for part, lr in own.items()}


def make_optimizer(config: Optimizer, model: MultiTaskModel, weighting: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimizer for the parameters of the model and of the weighting.

    Biases, the parameters of norms and those of the weighting have no weight decay. Parameters with the same settings
    share a group, because each group adds about 50 µs to a step.
    """
    rates = base_rates(config)
    own = {"trunk": config.groups.trunk.weight_decay, "heads": config.groups.heads.weight_decay}
    decays = {part: config.weight_decay if decay is None else decay for part, decay in own.items()}
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    shared = {id(p) for p in model.shared_parameters()}
    by_settings: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        part = "trunk" if id(parameter) in shared else "heads"
        decay = decays[part] if parameter.ndim > 1 and id(parameter) not in norms else 0.0
        if parameter.requires_grad:
            by_settings.setdefault((rates[part], decay), []).append(parameter)
    for parameter in weighting.parameters():
        by_settings.setdefault((config.lr, 0.0), []).append(parameter)
    groups = [{"params": p, "lr": lr, "base_lr": lr, "weight_decay": decay} for (lr, decay), p in by_settings.items()]
    fused = all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda") for group in by_settings.values() for p in group
    )
    if config.name == "sgd":
        # The fused kernel needs the momentum of all parameters to begin at the first step. It fails when a head gets
        # its first gradient later; and when fp16 skips the first step, it reads momentum from uninitialized memory.
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused and not config.momentum)
    adam = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return adam(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=fused)


def clip(parameters: Sequence[nn.Parameter], limit: float | None) -> Tensor:
    """Scales the gradients so that their norm is at most `limit`, if there is one.

    Returns:
        The norm of all gradients before the scaling, a scalar.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


class LearningRate:
    """Sets the learning rate of each group: its base rate times a factor, for warm-up and schedule."""

    def __init__(self, config: Scheduler, optimizer: torch.optim.Optimizer, total_steps: int) -> None:
        self.config, self.optimizer, self.total = config, optimizer, total_steps
        self.warmup = round(config.warmup * total_steps)
        self.plateau = 1.0  # the factor by which `plateau` has lowered the rate so far
        self.waited = 0  # validations without a better value since the rate was last lowered

    def factor(self, step: int) -> float:
        """The factor of the learning rates at step `step`; steps count from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        if self.config.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.config.name == "step":
            return self.config.factor ** int(step / self.total / self.config.every + 1e-9)
        return self.plateau

    def set(self, step: int) -> float:
        """Sets the learning rates of step `step`, and returns the factor."""
        factor = self.factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return factor

    def observe_validation(self, better: bool) -> None:
        """Counts validations that are not the best so far. After `patience` of them, `plateau` lowers the rate."""
        self.waited = 0 if better else self.waited + 1
        if self.config.name == "plateau" and self.waited >= self.config.patience:
            self.plateau *= self.config.factor
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"plateau": self.plateau, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.plateau, self.waited = state["plateau"], state["waited"]
