"""Δm % and ranks of the tables count tasks, not metrics."""

import pytest

from mtlcluster.collect.columns import DELTA_M, MEAN_RANK, result_columns
from mtlcluster.collect.read_histories import FinishedRun, TaskInfo
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.verdict.scores import Scale

TASKS = [
    TaskInfo("depth", "regression", {"mae": "min", "rmse": "min", "r2": "max"}),
    TaskInfo("parts", "other", {"iou": "max"}),
]


def setting(name, mae, rmse, r2, iou):
    values = {"test/depth/mae": mae, "test/depth/rmse": rmse, "test/depth/r2": r2, "test/parts/iou": iou}
    run = FinishedRun(name, 0, name, None, {}, {}, TASKS, None, 1, 1, "", "", {}, {}, values)
    return Setting(name, {}, name, [run])


def test_a_task_with_three_metrics_counts_as_much_as_one_with_a_single_metric():
    """By hand: first is best in all of depth, last in parts: rank (1 + 2)/2, where metrics would give 1.25."""
    rows = [setting("first", 1.0, 2.0, 0.9, 0.4), setting("second", 1.5, 3.0, 0.8, 0.6)]
    scale = Scale(
        "test", {"depth": {"mae": "min"}, "parts": {"iou": "max"}}, {"depth": {"mae": 2.0}, "parts": {"iou": 0.5}}
    )
    columns = {column.key: column for column in result_columns("test", TASKS, scale)}
    assert [cell.mean for cell in columns[MEAN_RANK].cells(rows)] == [1.5, 1.5]
    assert [cell.mean for cell in columns[DELTA_M].cells(rows)] == pytest.approx([-(50 - 20) / 2, -(25 + 20) / 2])
