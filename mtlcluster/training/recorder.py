"""The history as it grows: rows of every step, averaged to at most about 1,000 points a run, and values by epoch.

A step hands over tensors as they are; they are brought to the CPU only every few steps, so that recording makes no GPU
wait. `info`, see info.py, is put beside `series` and `measured` when the history is written.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcluster.problem import Task
from mtlcluster.training.gradients.aggregate import Aggregation

POINTS = 1000
FLUSH_EVERY = 50  # steps


@dataclass
class Step:
    """What a step leaves behind: losses [A] and weights [A] of the active tasks, what the gradient method made of their
    gradients, if it was asked, and the shares [T] of a batch that were drawn for each task, on the CPU, or None.
    """

    step: int
    active: list[int]
    losses: Tensor
    weights: Tensor
    total: Tensor
    gradient_norm: Tensor | None  # None where it was not computed
    aggregation: Aggregation | None
    rates: tuple[float, float]
    shares: Tensor | None = None


class Recorder:
    def __init__(self, tasks: list[Task], total_steps: int, needs: str, with_shares: bool) -> None:
        """needs: of the gradient method (see Gradient)."""
        names = [task.name for task in tasks]
        seen, weighs = needs != "nothing", needs == "gramian"
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))] if seen else []
        self.pairs = pairs
        self.names = names
        self.columns = [
            *(f"train/{name}/loss" for name in names),
            *(f"weight/{name}" for name in names),
            *(f"active/{name}" for name in names),
            "train/total_loss", "gradient_norm", "learning_rate/trunk", "learning_rate/heads",
            *(f"share/{name}" for name in names if with_shares),
            *(f"gradient_weight/{name}" for name in names if weighs),
            *(f"cosine/{names[i]}/{names[j]}" for i, j in pairs),
            *(f"norm_ratio/{names[i]}/{names[j]}" for i, j in pairs),
            *(["conflicting_steps"] if pairs else []),
        ]  # fmt: skip
        self.column = {name: place for place, name in enumerate(self.columns)}
        self.window = max(1, math.ceil(total_steps / POINTS))
        self.waiting: list[Step] = []
        self.rows = np.empty((0, len(self.columns)))  # of the window that is not full yet
        self.steps: list[int] = []
        self.points: list[np.ndarray] = []
        self.epoch_sum = np.zeros(len(names))  # of each task's training losses in this epoch
        self.epoch_count = np.zeros(len(names))
        self.by_epoch: dict[str, tuple[list[int], list[Any]]] = {}
        self.measured: dict[str, tuple[list[int], list[Any]]] = {}

    def add(self, step: Step) -> None:
        self.waiting.append(step)
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Brings the waiting steps over."""
        if not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        rows = np.full((len(waiting), len(self.columns)), np.nan)
        nan = torch.full_like(waiting[0].total, math.nan)
        norms = [nan if step.gradient_norm is None else step.gradient_norm for step in waiting]
        flat = torch.cat(
            [torch.cat([s.losses, s.weights, s.total[None], n[None]]) for s, n in zip(waiting, norms, strict=True)]
        )
        values = flat.double().cpu().numpy()
        count = len(self.names)
        for row, step in zip(rows, waiting, strict=True):
            a = len(step.active)
            row[step.active], row[[count + i for i in step.active]] = values[:a], values[a : 2 * a]
            row[2 * count : 3 * count] = 0
            row[[2 * count + i for i in step.active]] = 1
            row[3 * count : 3 * count + 4] = *values[2 * a : 2 * a + 2], *step.rates
            values = values[2 * a + 2 :]
            if not math.isfinite(row[3 * count + 1]):  # an overflow in fp16, whose step was left out
                row[3 * count + 1] = math.nan
            if step.shares is not None:
                row[3 * count + 4 : 4 * count + 4] = step.shares
            if step.choice is not None:
                self._put_choice(row, step.active, step.choice)
        self._count_epoch(rows[:, :count])
        self._average(waiting[0].step, rows)

    def _put_choice(self, row: np.ndarray, active: list[int], choice: Choice) -> None:
        place = {task: k for k, task in enumerate(active)}
        if choice.weights is not None:
            row[[self.column[f"gradient_weight/{self.names[i]}"] for i in active]] = choice.weights
        cosines, norms = choice.cosines, choice.norms
        for i, j in self.pairs:
            if i in place and j in place:
                pair, k, m = f"{self.names[i]}/{self.names[j]}", place[i], place[j]
                row[self.column[f"cosine/{pair}"]] = cosines[k, m]
                if norms[m] and math.isfinite(norms[k] / norms[m]):  # else an overflow in fp16
                    row[self.column[f"norm_ratio/{pair}"]] = norms[k] / norms[m]
        if self.pairs and len(active) > 1:
            row[self.column["conflicting_steps"]] = (cosines < 0).any()

    def _count_epoch(self, losses: np.ndarray) -> None:
        for row in losses:  # one by one: the sum must not depend on how many steps came over together
            present = ~np.isnan(row)
            self.epoch_sum[present] += row[present]
            self.epoch_count += present

    def _average(self, first: int, rows: np.ndarray) -> None:
        rows, first = np.concatenate([self.rows, rows]), first - len(self.rows)
        full = len(rows) // self.window * self.window
        for start in range(0, full, self.window):
            self._point(first + start + self.window, rows[start : start + self.window])
        self.rows = rows[full:]

    def _point(self, step: int, rows: np.ndarray) -> None:
        present = ~np.isnan(rows)
        with np.errstate(invalid="ignore"):
            self.points.append(np.where(present, rows, 0).sum(0) / present.sum(0))
        self.steps.append(step)

    def end_epoch(self) -> np.ndarray:
        """Each task's mean training loss [T] in the epoch that has ended, NaN where it did not train."""
        self.flush()
        with np.errstate(invalid="ignore"):
            means: np.ndarray = self.epoch_sum / self.epoch_count
        self.epoch_sum, self.epoch_count = np.zeros_like(means), np.zeros_like(means)
        return means

    def add_epoch(self, epoch: int, values: dict[str, Any], measured: bool = False) -> None:
        """Values as they stand after `epoch` epochs: numbers, or matrices as lists of rows."""
        for name, value in values.items():
            epochs, numbers = (self.measured if measured else self.by_epoch).setdefault(name, ([], []))
            epochs.append(epoch)
            numbers.append(value if isinstance(value, list) else float(value))

    def latest(self) -> dict[str, float]:
        """The newest value of every series of numbers that has one."""
        newest: dict[str, float] = {}
        if self.points:
            newest |= dict(zip(self.columns, map(float, self.points[-1]), strict=True))
        newest |= {n: numbers[-1] for n, (_, numbers) in self.by_epoch.items() if not isinstance(numbers[-1], list)}
        return {name: value for name, value in newest.items() if not math.isnan(value)}

    def history(self) -> dict[str, Any]:
        """`series` and `measured` in the form of sweep/history.py."""
        steps, points = np.array(self.steps, dtype=np.int64), self.points
        if len(self.rows):  # the last window may be short
            keep = len(points)
            self._point(self.steps[-1] + len(self.rows) if keep else len(self.rows), self.rows)
            steps, points = np.array(self.steps, dtype=np.int64), list(self.points)
            del self.points[keep:], self.steps[keep:]
        table = np.array(points).reshape(-1, len(self.columns))
        series = {name: {"step": steps, "value": table[:, i].copy()} for i, name in enumerate(self.columns)}
        return {
            "series": series | _by_epoch(self.by_epoch),
            "measured": _by_epoch(self.measured),
        }

    def state_dict(self) -> dict[str, Any]:
        self.flush()
        return {
            "rows": torch.from_numpy(self.rows),
            "steps": self.steps,
            "points": torch.from_numpy(np.array(self.points).reshape(-1, len(self.columns))),
            "epoch_sum": torch.from_numpy(self.epoch_sum),
            "epoch_count": torch.from_numpy(self.epoch_count),
            "by_epoch": self.by_epoch,
            "measured": self.measured,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.points = state["rows"].numpy(), list(state["points"].numpy())
        self.epoch_sum, self.epoch_count = state["epoch_sum"].numpy(), state["epoch_count"].numpy()
        self.steps, self.by_epoch, self.measured = state["steps"], state["by_epoch"], state["measured"]


def _by_epoch(values: dict[str, tuple[list[int], list[Any]]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        name: {"epoch": np.array(epochs, dtype=np.int64), "value": np.array(numbers, dtype=np.float64)}
        for name, (epochs, numbers) in values.items()
    }
