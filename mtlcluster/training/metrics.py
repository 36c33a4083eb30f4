"""Updates and computes the metrics of a Task: a number, or NaN with the reason why the labels allow none.

The metrics that a task has are chosen in mtlcluster/problem.py.

A value is undefined if `compute` raises ValueError or ZeroDivisionError or gives NaN, or if torchmetrics warns that
there are no positive or no negative samples and gives some number. Every other error of a metric, in `compute` or in
`update`, is a mistake of the metric and ends the run.
"""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
from torch import Tensor

from mtlcluster.problem import Task

if TYPE_CHECKING:  # importing it takes two seconds
    import torchmetrics

NAN = float("nan")
NO_LABELS = "no sample has a label"
NAN_GIVEN = "it gives nan"
MEANINGLESS = re.compile(r"No (?:positive|negative) samples[\w ]*")


class MetricError(Exception):
    """A metric failed for another reason than the labels. The message names the metric and its task.

    Attributes:
        always: true if it would fail with other samples, too.
    """

    always = True


class _NoNumber(TypeError):
    """A metric gives something else than one number."""


def update(task: Task, name: str, metric: "torchmetrics.Metric", outputs: Tensor, targets: Tensor) -> None:
    """Updates the metric `name` of a task. Raises MetricError."""
    with _named(task, name):
        metric.update(outputs, targets)


def compute(task: Task, name: str, metric: "torchmetrics.Metric") -> tuple[float, str]:
    """Computes the metric `name` of a task. Raises MetricError.

    Returns:
        The value and "", or NaN and the reason why it is undefined.
    """
    with warnings.catch_warnings(record=True) as said, _named(task, name, computing=True):
        warnings.simplefilter("always")
        try:
            value = _number(metric.compute())
        except (ValueError, ZeroDivisionError) as error:
            return NAN, next(iter(str(error).splitlines()), type(error).__name__)
    for warning in said:
        if found := MEANINGLESS.search(str(warning.message)):
            return NAN, found[0].lower()
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return value, "" if value == value else NAN_GIVEN


def _number(found: Any) -> float:
    if isinstance(found, (Tensor, np.ndarray)) and math.prod(found.shape) != 1:
        given = f"{math.prod(found.shape)} values"
    elif isinstance(found, (Mapping, Sequence)):
        inner = f" of {', '.join(map(str, found))}" if isinstance(found, Mapping) else f" of {len(found)}"
        given = f"a {type(found).__name__}{inner}"
    elif not isinstance(found, (Tensor, np.ndarray, SupportsFloat)):
        given = f"a {type(found).__name__}"
    else:
        return float(found.item() if isinstance(found, (Tensor, np.ndarray)) else found)
    raise _NoNumber(
        f"it gives {given}, where one number is expected: let it average (such as average='macro'), or make a metric "
        "of each number"
    )


@contextmanager
def _named(task: Task, name: str, computing: bool = False) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        kind = "" if isinstance(error, _NoNumber) else f"{type(error).__name__}: "
        found = MetricError(f"metric '{name}' of task '{task.name}': {kind}{said}")
        found.always = not computing or isinstance(error, _NoNumber)
        raise found from error
