"""The toy problem is that of the papers, and its first thousands of steps tell the methods apart (all: `make toy`)."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.toy import Loss, Position, loss
from jobs.toy.findings import FINDINGS, STARTS, STUCK
from jobs.toy.findings import Path as RunPath
from mtlcluster.config.run import RunConfig
from mtlcluster.training.train import load_build, train

ROOT = Path(__file__).parents[2]


def papers_losses(x, y):
    """Both losses, unscaled, by formulas that autograd can follow: those of methods.md."""
    f1 = torch.log((0.5 * (-x - 7) - torch.tanh(-y)).abs().clamp(min=5e-6)) + 6
    f2 = torch.log((0.5 * (-x + 3) + torch.tanh(-y) + 2).abs().clamp(min=5e-6)) + 6
    q1 = ((-x + 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
    q2 = ((-x - 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
    c1, c2 = torch.tanh(y / 2).clamp(min=0), torch.tanh(-y / 2).clamp(min=0)
    return [c1 * f1 + c2 * q1, c1 * f2 + c2 * q2]


def go(folder, method, start, steps, per_epoch):
    """The points [K, 2] after every `per_epoch` steps."""
    config = RunConfig(
        job="jobs/toy/__init__.py:build", data={"per_epoch": per_epoch}, model={"start": start, "scale": [0.1, 1]},
        method=method, steps=steps, batch_size=1, optimizer={"name": "adam", "lr": 1e-3, "weight_decay": 0},
        scheduler={"name": "constant", "warmup": 0}, gradient_clip=None, best={"value": "mean_loss"},
    )  # fmt: skip
    series = train(load_build(config.job, ROOT, config), config, folder)["series"]
    return np.stack([series[f"validation/task1/{axis}"]["value"] for axis in "xy"], axis=1)


@pytest.mark.parametrize("task", [0, 1])
def test_loss_and_slope_are_the_formulas(task):
    draw = np.random.default_rng(0)
    points = [*draw.uniform(-10, 10, (50, 2)).tolist(), [0.0, 0.0], [3.0, 0.0], [-9.0, 40.0], [5.0, 40.0]]
    for point in points:  # the last two are in the valleys, where the losses are flat
        x, y = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in point)
        value = papers_losses(x, y)[task]
        expected = [value.item(), *(slope.item() for slope in torch.autograd.grad(value, [x, y]))]
        assert loss(task, *point) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_values_by_hand():
    # Far up, tanh(y) and tanh(y / 2) are 1: log |½(−9 − 7) + 1| + 6 and log |½(−9 + 3) − 1 + 2| + 6. Far down, bowls.
    assert loss(0, 9.0, 80.0)[0] == pytest.approx(math.log(7) + 6)
    assert loss(1, 9.0, 80.0)[0] == pytest.approx(math.log(2) + 6)
    assert loss(0, -3.0, -108.0)[0] == pytest.approx((100 + 1000) / 10 - 20)
    assert loss(1, -3.0, -108.0)[0] == pytest.approx((16 + 1000) / 10 - 20)


def test_a_head_gives_loss_and_place_and_passes_its_scaled_slope_on():
    trunk = Position([-2.0, -5.0])
    outputs = Loss(1, 0.1)(trunk(torch.zeros(3)))
    value, *slope = loss(1, -2.0, -5.0)
    assert outputs.tolist() == [pytest.approx([0.1 * value, -2, -5])] * 3
    outputs[:, 0].mean().backward()
    assert trunk.position.grad.tolist() == pytest.approx([0.1 * part for part in slope])


def test_nothing_holds_the_origin(tmp_path):
    assert go(tmp_path, "equal", [0, 0], 100, 100)[-1, 1] < -0.05


def test_nash_mtl_moves_on_where_the_plain_sum_sticks(tmp_path):
    """Both methods run from (9, 9) into the valley of task 2, and part there within 500 steps."""
    plain, nash = (go(tmp_path / method, method, [5.5, 4.5], 1000, 100)[4:] for method in ("equal", "nash_mtl"))
    assert abs(np.vstack([plain, nash])[:, 0] - 5).max() < 0.1
    assert plain[:, 1].min() > 4.1
    assert nash[0, 1] < 4.05
    assert np.diff(nash[:, 1]).max() < -0.08


def run(method, start, end, arrival):
    """A path that stays at `end` after `arrival` steps."""
    return RunPath(method, start, np.array([0, arrival, 50_000]), np.array([start, end, end]))


def test_the_findings_tell_what_reproduces_them_from_what_does_not():
    """Each finding is broken once, by a path that ends elsewhere or arrives at another step."""
    front = -8.355
    paths = {
        "equal": [run("equal", s, s if s == STUCK else (-5.7, front), 20_000) for s in sorted(STARTS)],
        "pcgrad": [run("pcgrad", s, s if s == STUCK else (0.0, front), 20_000) for s in sorted(STARTS)],
        "mgda": [run("mgda", s, (0.0, front), 15_000) for s in sorted(STARTS)],
        "imtl_g": [run("imtl_g", s, (0.0, front), 15_000) for s in sorted(STARTS)],
        "nash_mtl": [run("nash_mtl", s, (s[0] / 3, front), 10_000) for s in sorted(STARTS)],
    }
    assert [finding.holds(paths) for finding in FINDINGS] == [True] * len(FINDINGS)

    def held(method, **changes):
        changed = [replace(path, **changes) for path in paths[method]]
        return [finding.holds({**paths, method: changed}) for finding in FINDINGS]

    aside, late = np.array([[0.0, 0.0], [7.5, front], [7.5, front]]), np.array([0, 45_000, 50_000])
    assert held("equal", points=aside) == [False, False, True, True, True, True]
    assert held("pcgrad", points=aside) == [True, True, False, True, True, True]
    assert held("imtl_g", points=aside) == [True, True, True, False, True, True]
    assert held("nash_mtl", points=aside) == [True, True, True, False, False, False]
    assert held("nash_mtl", steps=late) == [True, True, True, True, False, True]
