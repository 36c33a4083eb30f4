"""The check of every validation: a loss that is not finite ends the run."""

import math
from collections.abc import Sequence

from mtlcluster.problem import Problem, Task
from mtlcluster.sweep.series import LOSS, MEAN_LOSS, task_value
from mtlcluster.training.batch_check import broken_batches
from mtlcluster.training.nonfinite.guard import NonFinite
from mtlcluster.training.validation import Evaluation


def check_validation(
    evaluation: Evaluation, epoch: int, problem: Problem, tasks: Sequence[Task], batch_size: int
) -> None:
    """Checks that the losses of a validation are finite, where the labels allow a loss.

    Args:
        evaluation: The validation.
        epoch: The number of finished epochs.
        problem: The problem, whose validation data are searched for broken samples if a loss is not finite.
        tasks: The tasks that train.
        batch_size: The size of the batches in which the data are searched.

    Raises:
        NonFinite: A loss is not finite; the message names it, and a broken sample if there is one.
    """
    values, undefined = evaluation.values, evaluation.undefined
    if math.isfinite(values[MEAN_LOSS]) or MEAN_LOSS in undefined:
        return
    losses = [name for task in tasks if (name := task_value(task.name, LOSS)) not in undefined]
    name = next((name for name in losses if not math.isfinite(values[name])), MEAN_LOSS)
    found = broken_batches(problem.validation, tasks, batch_size, problem.collate, problem.workers)
    broken = next((error for error in found if error), None)
    cause = (
        f"; its data are broken: {broken}"
        if broken
        else ", with sound data: try a lower learning rate, gradient_clip or precision fp32"
    )
    raise NonFinite(f"the validation's {name} is {values[name]} after epoch {epoch}{cause}")
