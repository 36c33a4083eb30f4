"""From `submit` to the report: a grid ends the same on this machine and on a Slurm that preempts it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.status import read_status

ROOT = Path(__file__).parents[2]
GRID = """
name: digits
job: digits
base: digits.yaml
set: {epochs: 15}
grid:
  method: [equal, uncertainty, gradnorm, {schedule: dsg, weighting: dwa, gradient: pcgrad}]
  seed: {range: 3}
resources: {cpus: 1, memory: 800M, time: 10m}
runs_per_job: 3
at_once: 2
"""


def mtlcluster(*arguments):
    command = [sys.executable, "-m", "mtlcluster", *arguments]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_preempted_on_slurm_or_left_alone_here_the_series_are_the_same(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("jobs", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    grid = tmp_path / "configs/acceptance.yaml"
    grid.write_text(GRID)
    assert mtlcluster("submit", str(grid), "--cluster", "local", "--wait", "--runs", "here").wait() == 0

    waiting = mtlcluster("submit", str(grid), "--wait", "--runs", "there")  # Slurm answers, so it goes there
    sweep, preemptions = Sweep(tmp_path / "there/digits"), 0
    while waiting.poll() is None:
        statuses = [read_status(run.status) for run in sweep.runs()]
        training = [s for s in statuses if s and s.state == "running" and s.epoch >= 2]
        if training and preemptions < 3:
            preemptions += 1
            slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
            time.sleep(5)
        for job, state in slurm.jobs().items():
            if state == "PENDING":
                slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        time.sleep(1)
    assert waiting.returncode == 0
    assert mtlcluster("collect", "digits", "--runs", "there").wait() == 0
    attempts = [read_status(run.status).attempt for run in sweep.runs()]
    assert len(attempts) == 12
    assert sum(attempt > 1 for attempt in attempts) >= 3
    for run in Sweep(tmp_path / "here/digits").runs():
        ours, theirs = read_history(run.history)["series"], read_history(sweep.run(run.name).history)["series"]
        assert ours.keys() == theirs.keys()
        for name, curve in ours.items():
            for key, values in curve.items():
                np.testing.assert_array_equal(values, theirs[name][key], err_msg=f"{run.name} {name}", strict=True)
