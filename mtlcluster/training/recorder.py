"""The history of a run while it grows: values by step, averaged to at most about 1,000 points, and values by epoch.

The values of a step stay on the device. They are copied to the CPU every few steps only, so that recording does not
make a GPU wait. The `info` of a history is added when it is written, see info.py.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcluster.problem import Task
from mtlcluster.sweep import series
from mtlcluster.training.gradients.aggregate import Aggregation

POINTS = 1000
FLUSH_EVERY = 50  # steps


@dataclass
class StepRecord:
    """The values of one step that the history keeps.

    Attributes:
        step: The step's number, from 0.
        active: The positions of the A tasks that trained.
        losses: Their losses [A].
        weights: Their loss weights [A].
        total: The weighted sum of the losses, a scalar.
        gradient_norm: A scalar, or None where it was not computed.
        aggregation: The result of the gradient method; None if it was not asked.
        rates: The learning rates of trunk and heads.
        shares: The shares [T] of a batch that were drawn for the tasks, on the CPU, or None.
    """

    step: int
    active: list[int]
    losses: Tensor
    weights: Tensor
    total: Tensor
    gradient_norm: Tensor | None
    aggregation: Aggregation | None
    rates: tuple[float, float]
    shares: Tensor | None = None


def empty_record(step: int, device: torch.device) -> StepRecord:
    """The record of a step at which no task trained."""
    nothing, nan = torch.empty(0, device=device), torch.full((), math.nan, device=device)
    return StepRecord(step, [], nothing, nothing, nan, None, None, (math.nan, math.nan))


class Columns:
    """The columns of the table of steps, by their content.

    Attributes:
        names: The names of the series, column by column.
        losses, weights, active, shares, gradient_weights: The columns [T] of the tasks; empty if not recorded.
        rates: The columns [2] of the learning rates of trunk and heads.
        total_loss, gradient_norm, conflicting_steps: A column; the last is -1 if not recorded.
        pairs: For each pair of tasks its columns (cosine, norm ratio); empty if not recorded.
    """

    def __init__(self, tasks: Sequence[str], needs: str, with_shares: bool) -> None:
        """See Recorder."""
        self.names: list[str] = []
        asked = list(combinations(range(len(tasks)), 2)) if needs != "nothing" else []
        named = [(tasks[i], tasks[j]) for i, j in asked]
        self.losses = self._add(series.training_loss(task) for task in tasks)
        self.weights = self._add(series.weight(task) for task in tasks)
        self.active = self._add(series.active(task) for task in tasks)
        self.total_loss, self.gradient_norm = self._add([series.TOTAL_LOSS, series.GRADIENT_NORM])
        self.rates = self._add([series.TRUNK_RATE, series.HEADS_RATE])
        self.shares = self._add(series.share(task) for task in tasks if with_shares)
        self.gradient_weights = self._add(series.gradient_weight(task) for task in tasks if needs == "gramian")
        cosines = self._add(series.cosine(*pair) for pair in named)
        norm_ratios = self._add(series.norm_ratio(*pair) for pair in named)
        self.pairs = dict(zip(asked, zip(cosines.tolist(), norm_ratios.tolist(), strict=True), strict=True))
        self.conflicting_steps = self._add([series.CONFLICTING_STEPS])[0] if asked else -1

    def _add(self, names: Iterable[str]) -> np.ndarray:
        """Appends columns and returns their numbers."""
        first = len(self.names)
        self.names += names
        return np.arange(first, len(self.names))


class Recorder:
    """Collects the series of a history, step by step and epoch by epoch."""

    def __init__(self, tasks: list[Task], total_steps: int, needs: str, with_shares: bool) -> None:
        """
        Args:
            tasks: The run's T tasks.
            total_steps: The number of steps of the run.
            needs: The gradient method's `needs`, see Gradient. The series depend on it.
            with_shares: True if the schedule draws samples for the tasks.
        """
        self.columns = Columns([task.name for task in tasks], needs, with_shares)
        self.window = max(1, math.ceil(total_steps / POINTS))
        self.waiting: list[StepRecord] = []
        self.rows = np.empty((0, len(self.columns.names)))  # of the window that is not full yet
        self.steps: list[int] = []
        self.points: list[np.ndarray] = []
        self.epoch_sum = np.zeros(len(tasks))  # of each task's training losses in this epoch
        self.epoch_count = np.zeros(len(tasks))
        self.by_epoch: dict[str, tuple[list[int], list[Any]]] = {}
        self.measured: dict[str, tuple[list[int], list[Any]]] = {}

    def add(self, record: StepRecord) -> None:
        """Keeps the values of a step, which may still be on the device."""
        self.waiting.append(record)
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Copies the waiting steps to the CPU and averages them."""
        if not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        rows = np.full((len(waiting), len(self.columns.names)), np.nan)
        for row, record, numbers in zip(rows, waiting, _to_cpu(waiting), strict=True):
            self._fill(row, record, *numbers)
        self._count_epoch(rows[:, self.columns.losses])
        self._average(waiting[0].step, rows)

    def _fill(
        self, row: np.ndarray, record: StepRecord, losses: np.ndarray, weights: np.ndarray, total: float, norm: float
    ) -> None:
        columns, active = self.columns, record.active
        row[columns.losses[active]], row[columns.weights[active]] = losses, weights
        row[columns.active] = 0
        row[columns.active[active]] = 1
        row[columns.total_loss] = total
        # In fp16 a norm may overflow. That step was skipped.
        row[columns.gradient_norm] = norm if math.isfinite(norm) else math.nan
        row[columns.rates] = record.rates
        if record.shares is not None:
            row[columns.shares] = record.shares
        if record.aggregation is not None:
            self._fill_aggregation(row, active, record.aggregation)

    def _fill_aggregation(self, row: np.ndarray, active: list[int], found: Aggregation) -> None:
        columns, cosines, norms = self.columns, found.cosines, found.norms
        if found.factors is not None:
            row[columns.gradient_weights[active]] = found.factors
        place = {task: k for k, task in enumerate(active)}
        for (i, j), (cosine, norm_ratio) in columns.pairs.items():
            if i in place and j in place:
                k, m = place[i], place[j]
                row[cosine] = cosines[k, m]
                if norms[m] and math.isfinite(norms[k] / norms[m]):  # not so after an overflow in fp16
                    row[norm_ratio] = norms[k] / norms[m]
        if columns.pairs and len(active) > 1:
            row[columns.conflicting_steps] = (cosines < 0).any()

    def _count_epoch(self, losses: np.ndarray) -> None:
        for row in losses:  # one by one: the sum must not depend on how many steps are flushed together
            present = ~np.isnan(row)
            self.epoch_sum[present] += row[present]
            self.epoch_count += present

    def _average(self, first: int, rows: np.ndarray) -> None:
        rows, first = np.concatenate([self.rows, rows]), first - len(self.rows)
        full = len(rows) // self.window * self.window
        for start in range(0, full, self.window):
            self.steps.append(first + start + self.window)
            self.points.append(_mean(rows[start : start + self.window]))
        self.rows = rows[full:]

    def end_epoch(self) -> np.ndarray:
        """Returns each task's mean training loss [T] in the epoch that has ended, NaN where it did not train."""
        self.flush()
        with np.errstate(invalid="ignore"):
            means: np.ndarray = self.epoch_sum / self.epoch_count
        self.epoch_sum, self.epoch_count = np.zeros_like(means), np.zeros_like(means)
        return means

    def add_epoch(self, epoch: int, values: dict[str, Any], measured: bool = False) -> None:
        """Adds values of an epoch.

        Args:
            epoch: The number of finished epochs.
            values: Numbers, or matrices as lists of rows, by the name of the series.
            measured: True if they were measured (such as times), rather than computed by the training.
        """
        for name, value in values.items():
            epochs, numbers = (self.measured if measured else self.by_epoch).setdefault(name, ([], []))
            epochs.append(epoch)
            numbers.append(value if isinstance(value, list) else float(value))

    def latest(self) -> dict[str, float]:
        """The newest value of every series of numbers, where it has one."""
        newest: dict[str, float] = {}
        if self.points:
            newest |= dict(zip(self.columns.names, map(float, self.points[-1]), strict=True))
        newest |= {n: numbers[-1] for n, (_, numbers) in self.by_epoch.items() if not isinstance(numbers[-1], list)}
        return {name: value for name, value in newest.items() if not math.isnan(value)}

    def history(self) -> dict[str, Any]:
        """`series` and `measured` in the form of sweep/history.py."""
        steps, points = list(self.steps), list(self.points)
        if len(self.rows):  # the last window may be short
            steps.append((steps[-1] if steps else 0) + len(self.rows))
            points.append(_mean(self.rows))
        steps_array, table = np.array(steps, dtype=np.int64), self._table(points)
        by_step = {
            name: {"step": steps_array, "value": table[:, column].copy()}
            for column, name in enumerate(self.columns.names)
        }
        return {"series": by_step | _by_epoch(self.by_epoch), "measured": _by_epoch(self.measured)}

    def _table(self, points: list[np.ndarray]) -> np.ndarray:
        """The points as one table [K, columns], also if there are none."""
        return np.array(points).reshape(-1, len(self.columns.names))

    def state_dict(self) -> dict[str, Any]:
        self.flush()
        return {
            "rows": torch.from_numpy(self.rows),
            "steps": self.steps,
            "points": torch.from_numpy(self._table(self.points)),
            "epoch_sum": torch.from_numpy(self.epoch_sum),
            "epoch_count": torch.from_numpy(self.epoch_count),
            "by_epoch": self.by_epoch,
            "measured": self.measured,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.points = state["rows"].numpy(), list(state["points"].numpy())
        self.epoch_sum, self.epoch_count = state["epoch_sum"].numpy(), state["epoch_count"].numpy()
        self.steps, self.by_epoch, self.measured = state["steps"], state["by_epoch"], state["measured"]


def _to_cpu(records: list[StepRecord]) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """The losses [A], loss weights [A], total loss and gradient norm of each step, copied in one transfer."""
    nan = torch.full_like(records[0].total, math.nan)
    norms = [nan if record.gradient_norm is None else record.gradient_norm for record in records]
    together = torch.cat(
        [torch.cat([r.losses, r.weights, r.total[None], n[None]]) for r, n in zip(records, norms, strict=True)]
    )
    numbers, found = together.double().cpu().numpy(), []
    for record in records:
        count = len(record.active)
        losses, weights, numbers = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
        total, norm, numbers = float(numbers[0]), float(numbers[1]), numbers[2:]
        found.append((losses, weights, total, norm))
    return found


def _mean(rows: np.ndarray) -> np.ndarray:
    """The mean of each column of `rows` [K, columns] over the numbers in it, NaN where there are none."""
    present = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.where(present, rows, 0).sum(0) / present.sum(0)
    return means


def _by_epoch(values: dict[str, tuple[list[int], list[Any]]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        name: {"epoch": np.array(epochs, dtype=np.int64), "value": np.array(numbers, dtype=np.float64)}
        for name, (epochs, numbers) in values.items()
    }
