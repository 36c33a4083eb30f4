"""The test data's own error in the verdict: from the predictions of the compared runs, or left out with the reason."""

import json

import numpy as np
import pytest
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.collect.make_report import make_report
from mtlcluster.sweep.predictions import Predictions, TaskPredictions, write_predictions

N, SEEDS = 300, 3
TASKS = [{"name": "t", "kind": "classification", "metrics": {"accuracy": "max"}}]
NUMBERS = np.random.default_rng(1)


def hits(share: float) -> np.ndarray:
    """Right or wrong for each sample: the methods are right on other samples, so that nothing cancels out."""
    found = np.zeros(N, bool)
    found[NUMBERS.choice(N, round(share * N), replace=False)] = True
    return found


def add(sweep, name: str, seed: int, right: np.ndarray, full: dict, keep: bool = True) -> None:
    entry = history(full, seed, label=name, tasks=TASKS)
    entry["series"]["test/t/accuracy"] = {"epoch": np.array([20]), "value": np.array([float(right.mean())])}
    folder = f"{name}-seed={seed}-{seed:09x}{'ab'[name == 'equal']}"
    add_run(sweep, folder, entry)
    if keep:
        run = sweep.run(folder)
        targets = np.arange(N) % 2
        task = TaskPredictions(
            "t", "classification", None, targets.astype(float), np.eye(2)[np.where(right, targets, 1 - targets)]
        )
        write_predictions(run.predictions, Predictions(list(map(str, range(N))), None, [task]))


def verdict(sweep) -> dict:
    make_report(sweep, lambda line: None)
    return json.loads((sweep.report / "verdict.json").read_text())


def test_it_widens_the_interval_by_the_error_of_the_samples(tmp_path):
    sweep = make_sweep(tmp_path / "s")
    for seed in range(SEEDS):
        add(sweep, "equal", seed, hits((0.6, 0.61, 0.59)[seed]), method())
        add(sweep, "pcgrad", seed, hits((0.8, 0.79, 0.81)[seed]), method(gradient="pcgrad"))
    found = verdict(sweep)
    [versus] = [m["versus_reference"] for m in found["methods"] if m["name"] == "pcgrad"]
    # z is 100/0.6 times the accuracy. The runs are independent: their variances add up, and seeds are averaged.
    variance = (0.6 * 0.4 + 0.8 * 0.2) / N / SEEDS
    assert versus["half_samples"] == pytest.approx(1.96 * 100 / 0.6 * np.sqrt(variance), rel=0.15)
    half = np.hypot(versus["half_seeds"], versus["half_samples"])
    assert versus["high"] - versus["difference"] == pytest.approx(half)
    assert "the test data's own error is part of the intervals" in found["sentences"][-1]


def test_without_predictions_it_is_left_out_and_the_reason_is_said(tmp_path):
    sweep = make_sweep(tmp_path / "s")
    for seed in range(SEEDS):
        add(sweep, "equal", seed, hits((0.6, 0.61, 0.59)[seed]), method())
        add(sweep, "pcgrad", seed, hits((0.8, 0.79, 0.81)[seed]), method(gradient="pcgrad"), keep=seed > 0)
    found = verdict(sweep)
    [versus] = [m["versus_reference"] for m in found["methods"] if m["name"] == "pcgrad"]
    assert versus["half_samples"] is None
    [warning] = [w for w in found["warnings"] if "own error is left out" in w]
    assert "the predictions of the test data were not kept" in warning
