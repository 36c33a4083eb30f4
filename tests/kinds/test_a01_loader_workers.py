"""Runs whose data are loaded by other processes, under the real worker: they train, are preempted in mid-epoch, and go
on exactly; and whoever is killed, no loader process is left that holds the run."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from mtlcluster.config.run import RunConfig
from mtlcluster.sweep.files import is_locked
from mtlcluster.sweep.history import read_history

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
from runs import assert_same

from mtlcluster.training.train import load_build, train

STEPS = 6           # of an epoch


def whole_series(run, project, folder):
    """Trains the run's configuration here, in peace."""
    values = yaml.safe_load(run.config.read_text())
    config = RunConfig(**{key: value for key, value in values.items() if key != "origin"})
    return train(load_build(config.job, project, config), config, folder)["series"]


def wait_for(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def processes_of(run):
    """The training process of the run and all that belongs to it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if str(run.folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def preempted(found, part, times):
    """Stops the worker `times` times in the midst of an epoch of the run, and starts it again, as Slurm does."""
    run = found.sweep.run(found.run(part))
    for time_of in range(1, times + 1):
        wait_for(lambda n=time_of: (s := found.status(part)) and s.attempt == s.epoch == n, f"{part} to train")
        time.sleep(0.3)
        os.kill(found.worker, signal.SIGUSR2)
        os.waitpid(found.worker, 0)
        assert (status := found.status(part)).state == "queued", f"{status}\n{found.log(part)}"
        assert status.step % STEPS, "it was stopped at the end of an epoch"
        found.begin_again()
    wait_for(lambda: found.status(part).state in ("done", "failed"), "the run to end")
    assert found.status(part).state == "done", found.log(part)
    return read_history(run.history)


def check_exact(found, part, project, folder):
    history = preempted(found, part, 2)
    assert len(history["info"]["attempts"]) == 3
    assert_same(whole_series(found.sweep.run(found.run(part)), project, folder), history["series"])


def loading(make_grid, **data):
    """A grid of one run that does as `data` says."""
    options = {f"data.{name}": value for name, value in data.items()}
    return make_grid(job="loading", grid={"seed": [0]}, set={"epochs": 3, "batch_size": 8, **options})


@pytest.mark.parametrize(
    "data",
    [
        {"workers": 1, "start": "fork"},
        pytest.param({"workers": 2, "start": "fork"}, marks=pytest.mark.long),
        pytest.param({"workers": 1, "start": "spawn"}, marks=pytest.mark.long),
        pytest.param({"workers": 2, "start": "spawn"}, marks=pytest.mark.long),
        pytest.param({"workers": 2, "start": "forkserver"}, marks=pytest.mark.long),
        pytest.param({"workers": 1, "start": "fork", "persistent": True}, marks=pytest.mark.long),
        pytest.param({"workers": 2, "start": "spawn", "persistent": True}, marks=pytest.mark.long),
    ],
    ids=lambda data: "-".join(map(str, data.values())),
)
def test_preempted_in_mid_epoch_it_ends_as_if_left_alone(make_grid, submit_locally, project, tmp_path, data):
    found = submit_locally(loading(make_grid, slow=0.02, **data))
    check_exact(found, "", project, tmp_path / "whole")
