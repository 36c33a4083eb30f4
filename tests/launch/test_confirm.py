"""Choosing settings and confirming them: what `submit` submits, and what the worker makes of it, on this machine."""

import json
import os
import subprocess
import sys
import time

import pytest
from rig.handmade import wait_for
from rig.search import as_search

from mtlcluster import _entry
from mtlcluster.config.run import read_run_config, run_hash
from mtlcluster.launch import cancel
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_status import observe
from mtlcluster.sweep import submissions
from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.names import hash_of

pytestmark = pytest.mark.usefixtures("fake_child")


@pytest.fixture
def submit_search(project, make_grid, submit_locally):
    """Submits a search to this machine: a trial for each learning rate of each method."""

    def submit_it(lr, confirming, method=("equal",), seed=(0,), words=("scored",), **keys):
        points = {"method": [*method], "optimizer.lr": [*lr], "data.path": [*words], "seed": [*seed]}
        grid = make_grid(grid=points, **keys)
        as_search(grid, project / "runs", [*confirming])
        return submit_locally(grid)

    return submit_it


def states(sweep):
    return {run.run: run.state for run in observe([sweep])}


def wait_until_ended(sweep, seconds=40):
    wait_for(lambda: all(run.ended for run in observe([sweep])), seconds)
    return {run.run: run for run in observe([sweep])}


def test_the_best_trial_of_each_method_is_trained_with_the_confirming_seeds(submit_search):
    local = submit_search(lr=[0.3, 0.1, 0.2], confirming=[1, 2], method=["equal", "pcgrad"])
    sweep = local.sweep
    before = {run.run: run for run in observe([sweep])}
    assert len(before) == 10
    waiting = before["pcgrad-choice=1-seed=2"]
    assert (waiting.state, waiting.roles, waiting.method, waiting.trial) == ("queued", ["confirm"], "pcgrad", None)
    assert waiting.notes == ["waits for the trials of pcgrad"]
    after = wait_until_ended(sweep)
    assert {run.state for run in after.values()} == {"done"}
    assert len(after) == 10
    for method in ("equal", "pcgrad"):
        [choice] = read_choices(sweep.folder, method)
        assert (choice.number, choice.trial, choice.values) == (1, 1, {"optimizer.lr": 0.1, "data.path": "scored"})
        assert [c.number for c in choice.candidates] == [0.3, 0.1, 0.2]
        assert [*choice.runs] == [1, 2]
        for seed, name in choice.runs.items():
            config = read_run_config(sweep.run(name).config)
            assert (config.seed, config.optimizer.lr, hash_of(name)) == (seed, 0.1, run_hash(config))
            assert config.origin.varied["seed"] == seed
            run = after[name]
            assert (run.method, run.trial, run.roles) == (method, 1, ["confirm"])
            assert run.values == choice.values
    assert len(submissions.read(sweep.submissions)) == 1
    assert not any(path.is_dir() for path in (sweep.folder / "choices").iterdir())
