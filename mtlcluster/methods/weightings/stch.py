from typing import ClassVar

import torch
from torch import Tensor

from mtlcluster.methods.base import Active, Context, Weighting
from mtlcluster.methods.options import Count, Positive
from mtlcluster.methods.weightings.scale_invariant import safe_log


class SmoothTchebycheff(Weighting):
    """A smooth maximum of the relative losses: μ T logsumexp(log(L / nadir) / μ), T the number of active tasks.

    The nadir of a task is the mean of its first `warmup` epochs' mean losses; epochs in which it did not train do not
    count. Until all tasks that are active at a step have a nadir, F is Σ log L, whose weights are the limit for large
    μ. So a run of at most `warmup` epochs is `scale_invariant`. The authors' code warms up for 4 epochs as well, but
    takes the nadir from the epoch after them. Losses must be positive, see `safe_log` in scale_invariant.py.

    Args:
        mu: μ; with a smaller one, the largest relative loss counts more.
        warmup: the number of epochs from which the nadir is computed.
    """

    paper = "Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML 2024"
    linear: ClassVar[bool] = False
    total: Tensor
    epochs: Tensor

    def __init__(self, context: Context, *, mu: Positive = 1.0, warmup: Count = 4) -> None:
        super().__init__(context)
        self.mu, self.warmup = mu, warmup
        self.register_buffer("total", torch.zeros(len(context.tasks), dtype=torch.float64))
        self.register_buffer("epochs", torch.zeros(len(context.tasks), dtype=torch.int64))

    def forward(self, losses: Tensor, active: Active) -> Tensor:
        nadir = (self.total / self.epochs.clamp_min(1))[active]  # where unknown too: NaN would enter the gradient
        known = (self.epochs[active] == self.warmup).all()
        logs = safe_log(losses)
        relative = logs - safe_log(nadir).to(logs)
        return torch.where(known, self.mu * len(losses) * torch.logsumexp(relative / self.mu, dim=0), logs.sum())

    def observe_epoch(self, mean_losses: Tensor) -> None:
        latest = mean_losses.to(self.total)
        counts = (self.epochs < self.warmup) & latest.isfinite()
        self.total += torch.where(counts, latest, 0.0)
        self.epochs += counts
