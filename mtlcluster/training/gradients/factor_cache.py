"""Factors of a gradient method that are used for several steps (its option `every`)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcluster.training.gradients.aggregate import Aggregation

State = dict[str, Any]


class FactorCache:
    """The factors [A] that a gradient method chose last. They hold for `every` steps of the same active tasks."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.kept: dict[str, Any] | None = None  # active: which tasks; weights: their factors; steps: used so often

    def get(self, active: list[int]) -> Tensor | None:
        """The factors [A] to use again for these tasks, or None when the method is to be asked."""
        if self.kept is None or self.kept["active"] != active or self.kept["steps"] >= self.every:
            return None
        return torch.tensor(self.kept["weights"], dtype=torch.float64)

    def step_made(self, active: list[int], chosen: Aggregation | None) -> None:
        """Counts a step that was made.

        Args:
            active: the tasks that trained.
            chosen: what the gradient method chose at this step; None when it was not asked.
        """
        if chosen is not None and chosen.factors is not None:
            # After an overflow in fp16 the factors are not the method's: it is asked again at the next step.
            sound = bool(np.isfinite(chosen.norms).all())
            self.kept = {"active": active, "weights": chosen.factors.tolist(), "steps": 1} if sound else None
        elif self.kept is not None:
            self.kept = {**self.kept, "steps": self.kept["steps"] + 1}

    def state_dict(self) -> State:
        return {"kept": self.kept}

    def load_state_dict(self, state: State) -> None:
        self.kept = state["kept"]
