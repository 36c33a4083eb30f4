"""The digits job uses real scans, and none of them is in two of training, validation and test."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from mtlcluster.config.run import RunConfig
from mtlcluster.training.train import load_build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def problem():
    return load_build("jobs/digits.py:build", ROOT, RunConfig(job="digits", data={"unlabelled": 0.25}))()


def halves(data):
    """All scans of the pairs, left and right."""
    return torch.cat([data.inputs[:, :, :8], data.inputs[:, :, 8:]]).mul(16).round().byte().flatten(1)


def test_no_scan_is_in_two_of_the_three_parts(problem):
    scans = {bytes(scan) for scan in load_digits().images.round().astype("uint8").reshape(-1, 64)}
    parts = [{bytes(s.tolist()) for s in halves(data)} for data in (problem.train, problem.validation, problem.test)]
    assert all(part <= scans for part in parts)
    assert [len(part) > 100 for part in parts] == [True] * 3
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_the_targets_are_what_the_tasks_say(problem):
    for data in (problem.train, problem.validation, problem.test):
        left, right = data.targets["left"], data.targets["right"]
        assert torch.equal(data.targets["even_sum"], ((left + right) % 2 == 0).float())
        known = ~data.targets["difference"].isnan()
        assert torch.equal(data.targets["difference"][known], (left - right)[known].float())
    assert 0.2 < problem.train.targets["difference"].isnan().float().mean() < 0.3
    assert not problem.test.targets["difference"].isnan().any()
