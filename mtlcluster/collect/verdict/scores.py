"""One number a run: z, the mean over its tasks of how far their leading metrics are from ONE baseline, in points."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mtlcluster.sweep import series

SMALL_SCORE = 0.05  # relative to a score below it, any difference looks large
CAN_BE_NEGATIVE = {"r2", "correlation", "pearson", "spearman", "kendall", "concordance", "mcc", "matthews", "kappa"}


def points(value: float, baseline: float, direction: str, can_be_negative: bool = False) -> float:
    """How far a metric is from its baseline, in points; larger is better.

    100·sign·(m − B)/|B| (Maninis et al., CVPR 2019, with the other sign). Errors and losses are taken relative unless
    B = 0; scores unless they can be negative or B < 0.05: those are 100·sign·(m − B).

    Args:
        value: m.
        baseline: B.
        direction: The better direction, "min" or "max".
        can_be_negative: True for such as R² and correlations.
    """
    return slope(baseline, direction, can_be_negative) * (value - baseline)


def slope(baseline: float, direction: str, can_be_negative: bool = False) -> float:
    """The points for each unit of a metric. The arguments are those of `points`."""
    sign = -1.0 if direction == "min" else 1.0
    relative = baseline > 0 if direction == "min" else baseline >= SMALL_SCORE
    return 100 * sign / (abs(baseline) if relative and not can_be_negative else 1.0)


@dataclass(frozen=True)
class Scale:
    """What values of one kind of data are relative to.

    Attributes:
        data: "validation" or "test".
        leading: The leading metrics of each task, with the better direction of each.
        baseline: B of each of them, by task.
        negative: The metrics that were seen below 0, as (task, metric).
    """

    data: str
    leading: dict[str, dict[str, str]]
    baseline: dict[str, dict[str, float]]
    negative: set[tuple[str, str]] = field(default_factory=set)

    def task_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """The value of each task of a run: the mean over its leading metrics, in points; NaN where one is missing.

        Args:
            values: The run's values by series, such as `test/left/accuracy`.
        """
        return {
            task: float(np.mean([self._points(values, task, name) for name in self.leading[task]]))
            for task in self.leading
        }

    def z(self, values: Mapping[str, float]) -> float:
        """z of a run: the mean over the tasks; −z is Δm %. NaN where a value is missing."""
        return float(np.mean(list(self.task_values(values).values()))) if self.leading else math.nan

    def slopes(self) -> dict[str, float]:
        """By series, such as `test/left/accuracy`: the change of z for each unit of this metric. z is linear in all."""
        found = {}
        for task, metrics in self.leading.items():
            for metric, direction in metrics.items():
                each = slope(self.baseline[task][metric], direction, self._can_be_negative(task, metric))
                found[series.evaluated(self.data, metric, task)] = each / len(metrics) / len(self.leading)
        return found

    def _points(self, values: Mapping[str, float], task: str, metric: str) -> float:
        value = values.get(series.evaluated(self.data, metric, task), math.nan)
        if not math.isfinite(value):
            return math.nan
        direction = self.leading[task][metric]
        return points(value, self.baseline[task][metric], direction, self._can_be_negative(task, metric))

    def _can_be_negative(self, task: str, metric: str) -> bool:
        return (task, metric) in self.negative or any(word in CAN_BE_NEGATIVE for word in _words(metric))


def _words(metric: str) -> list[str]:
    """Such as pearson and corr of `PearsonCorr_0`."""
    parts = "".join(f"_{c.lower()}" if c.isupper() else c for c in metric).replace("-", "_").split("_")
    return [*parts, metric.lower()]
