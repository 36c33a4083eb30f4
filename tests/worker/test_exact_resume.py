"""Every method under the real worker with the real training process: stopped by a signal, it goes on exactly."""

import os
import signal
import time

import pytest
import yaml
from rig.tiny_runs import DIFFICULTY, DSG, assert_same

from mtlcluster.config.run import RunConfig
from mtlcluster.launch.executors import local
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.status import read_status
from mtlcluster.training.train import load_build, train

# Every schedule, every weighting and every gradient method; one by one they are stopped in training/test_resume.py.
METHODS = [
    {"schedule": "all", "weighting": "equal", "gradient": "pcgrad"},
    {"schedule": {"name": "single", "task": "c"}, "weighting": {"name": "static", "weights": {"c": 0.1}}},
    {"schedule": "round_robin", "weighting": "uncertainty", "gradient": "sum"},
    {"schedule": DSG, "weighting": "gradnorm", "gradient": "pcgrad"},
    {"schedule": {"name": "sequential", "order": ["c", "a", "b"]}, "weighting": "dwa", "gradient": "sum"},
    {"schedule": DIFFICULTY, "weighting": "gradnorm", "gradient": "sum"},
]


def statuses(sweep):
    return {run.name: read_status(run.status) for run in sweep.runs()}


@pytest.mark.long  # one by one they are stopped in tests/training/resume/test_checkpoint.py
@pytest.mark.timeout(240)
def test_every_method_stopped_by_signal_ends_the_same(make_grid, submit_locally, project, tmp_path):
    settings = {"epochs": 40, "batch_size": 16, "accumulate": 2, "optimizer.lr": 0.01, "model.slow": 0.005}
    found = submit_locally(make_grid(grid={"method": METHODS}, set=settings))
    sweep, stopped, stops = found.sweep, set(), 0
    while not all(status and status.state == "done" for status in statuses(sweep).values()):
        now = statuses(sweep)
        running = {name: s for name, s in now.items() if s and s.state == "running"}
        training = {name for name, s in running.items() if s.epoch > 0}
        # Where one is still importing torch: later, unless the other is about to end.
        if len(training) < len(running) and all(running[name].epoch < 30 for name in training - stopped):
            training = set()
        assert not [s.error for s in now.values() if s and s.state == "failed"]
        if training - stopped:
            time.sleep(0.1)
            os.kill(found.worker, signal.SIGUSR2)
            os.waitpid(found.worker, 0)
            stopped |= {name for name in training if statuses(sweep)[name].state == "queued"}
            stops += 1
            found.worker = local.start_worker(sweep, "0001", next(sweep.code.iterdir()).name)
        time.sleep(0.05)
    assert len(stopped) == len(METHODS)
    for run in sweep.runs():
        values = yaml.safe_load(run.config.read_text())
        del values["origin"]
        config = RunConfig(**values)
        whole = train(load_build(config.job, project, config), config, tmp_path / "whole" / run.name)
        history = read_history(run.history)
        assert len(history["info"]["attempts"]) > 1
        assert_same(whole["series"], history["series"])
