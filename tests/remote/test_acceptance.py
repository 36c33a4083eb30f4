"""The whole way of a user: a grid is submitted to two clusters from a home that has only a cluster file.

One cluster loses its connection during submit, one is preempted. What comes home equals what this machine trains.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from rig.laptop import Laptop
from rig.slurm_cluster import wait_for

from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import read_history

ROOT = Path(__file__).parents[2]
GRID = """
name: digits
job: digits
base: digits.yaml
set: {epochs: 12}
grid:
  method: [equal, gradnorm, {schedule: dsg, weighting: dwa, gradient: pcgrad}]
  seed: {range: 2}
resources: {cpus: 1, memory: 800M, time: 10m}
runs_per_job: 3
"""


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_clusters_one_preempted_one_cut_off_give_what_this_machine_gives(arnold, uh, client, tmp_path):
    for folder in ("jobs", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / "laptop" / folder)
    (tmp_path / "laptop" / "configs" / "acceptance.yaml").write_text(GRID)
    laptop = Laptop(tmp_path / "laptop", tmp_path / "second home")
    laptop.describe(arnold={"partition": "main"}, uh={"partition": "main"})

    uh.login.cut(3, "after")
    broken = laptop("submit", "configs/acceptance.yaml", "--split", "arnold,uh", code=1)
    assert "the connection to uh was lost; to complete it, submit again" in broken
    assert "are already there" in laptop("submit", "configs/acceptance.yaml", "--split", "arnold,uh")
    assert len(laptop.status("digits")) == 6

    def on(cluster: str) -> list[dict]:
        return [run for run in laptop.status("digits").values() if run["cluster"] == cluster]

    def trains(run: dict) -> bool:
        return run["epoch"] >= 2 and run["state"] == "running"

    wait_for(lambda: any(map(trains, on("arnold"))), "arnold to train", 200)
    arnold.slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_for(lambda: "PENDING" in arnold.slurm.jobs().values(), "the preemption", 60)
    assert "arnold" in laptop("status", "digits")
    [job] = [job for job, state in arnold.slurm.jobs().items() if state == "PENDING"]
    arnold.slurm.release(job)
    wait_for(lambda: {run["state"] for run in laptop.status("digits").values()} == {"done"}, "all to be done", 600)
    assert max(run["attempt"] for run in on("arnold")) > 1
    assert {run["attempt"] for run in on("uh")} == {1}

    said = laptop("collect", "digits")
    assert "collected 6 of 6 runs" in said
    table = (laptop.folder / "runs" / "digits" / "report" / "tables" / "runs.csv").read_text()
    assert {line.split(",")[1] for line in table.splitlines()[1:]} == {"arnold", "uh"}
    laptop("submit", "configs/acceptance.yaml", "--cluster", "local", "--wait", "--runs", "here")
    for run in Sweep(laptop.folder / "here" / "digits").runs():
        ours = read_history(run.history)["series"]
        theirs = read_history(laptop.folder / "runs" / "digits" / run.name / "history.pkl")["series"]
        assert ours.keys() == theirs.keys()
        for name, curve in ours.items():
            for key, values in curve.items():
                np.testing.assert_array_equal(values, theirs[name][key], err_msg=f"{run.name} {name}", strict=True)
