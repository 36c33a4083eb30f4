"""The best validation of a run, and early stopping."""

import math
from typing import Any

from mtlcluster.config.run import Best, EarlyStopping
from mtlcluster.sweep.series import LOSS, MEAN_LOSS, task_and_value
from mtlcluster.training.resume.checkpoint import State
from mtlcluster.training.validation import Evaluation, Undefined


class BestValidation:
    """The best validation so far, and how many validations have passed without a real improvement.

    Attributes:
        best: The best validation, as history and status have it: `value` and `direction` as configured, the `number`,
            the numbers of finished epochs and steps (`epoch`, `step`), and the `thresholds` of binary tasks. None
            before the first validation.
        to_beat: For early stopping, the last number that was better by `min_delta` than the one to beat before it.
        bad_validations: The number of validations since then that have not beaten it.
    """

    def __init__(self, config: Best, stopping: EarlyStopping | None) -> None:
        self.config, self.stopping = config, stopping
        self.best: dict[str, Any] | None = None
        self.to_beat: float | None = None
        self.bad_validations = 0

    def observe(self, evaluation: Evaluation, epoch: int, step: int) -> bool:
        """Takes note of the result of a validation.

        Args:
            evaluation: The validation, whose losses are finite.
            epoch: The number of finished epochs.
            step: The number of finished steps.

        Returns:
            True if it is the best so far.

        Raises:
            Undefined: The value that decides is not finite.
        """
        name = self.config.value
        number = evaluation.values[name]
        if not math.isfinite(number):
            reason = evaluation.undefined.get(name, f"it is {number}, though all losses are finite")
            raise Undefined(self.config, reason)
        if self._is_better(number, self.to_beat, self.stopping.min_delta if self.stopping else 0.0):
            self.to_beat, self.bad_validations = number, 0
        else:
            self.bad_validations += 1
        if not self._is_better(number, self.best["number"] if self.best else None):
            return False
        self.best = {
            **self.config.model_dump(), "number": number, "epoch": epoch, "step": step,
            "thresholds": evaluation.thresholds,
        }  # fmt: skip
        return True

    def notes(self, evaluation: Evaluation) -> list[str]:
        """A sentence if the mean loss decides, and is mostly the loss of one task. Only at the first validation.

        Args:
            evaluation: The validation, before `observe` has seen it.
        """
        if self.best is not None or self.config.value != MEAN_LOSS:
            return []
        losses = {of[0]: loss for name, loss in evaluation.values.items() if (of := task_and_value(name))[1] == LOSS}
        present = {task: loss for task, loss in losses.items() if math.isfinite(loss)}
        largest = max(present, key=present.__getitem__, default="")
        if len(present) < 2 or min(present.values()) < 0 or 2 * present[largest] <= sum(present.values()):
            return []
        share = present[largest] / sum(present.values())
        return [
            f"best: mean_loss is mostly the loss of task '{largest}' ({share:.0%} at the first validation), which thus "
            "decides which checkpoint is the best; in relative_loss all tasks count alike"
        ]

    def is_out_of_patience(self) -> bool:
        """True if early stopping ends the training."""
        return self.stopping is not None and self.bad_validations >= self.stopping.patience

    def state_dict(self) -> State:
        return {"best": self.best, "to_beat": self.to_beat, "bad_validations": self.bad_validations}

    def load_state_dict(self, state: State) -> None:
        self.best, self.to_beat = state["best"], state["to_beat"]
        self.bad_validations = state["bad_validations"]

    def _is_better(self, number: float, other: float | None, margin: float = 0.0) -> bool:
        """True if `number` is better than `other` by more than `margin`; None is worse than any number."""
        sign = 1 if self.config.direction == "max" else -1
        return other is None or sign * (number - other) > margin
