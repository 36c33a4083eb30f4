"""Runs on remote clusters from the laptop: watched, steered, and brought home."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import yaml
from rig.handmade import add_runs, at_epoch, new_sweep
from rig.slurm_cluster import wait_for

from mtlcluster.sweep.folder import Sweep

CONFIG = """
job: tiny
origin:
  sweep: old
  code: c0de
  cluster: arnold
  varied: {}
"""


def there(cluster, name: str = "old", **runs) -> Sweep:
    """A sweep that was trained over there some time ago; Slurm has forgotten its jobs."""
    sweep = new_sweep(cluster.login.home / "mtlcluster" / "runs", name)
    sweep.grid.write_text(f"name: {name}\njob: jobs/tiny.py:build\nsource:\n  grid: /gone/{name}.yaml\n  root: /gone\n")
    add_runs(sweep, "77", dict(runs))
    for name, status in runs.items():
        run = sweep.run(name)
        run.config.write_text(CONFIG)
        run.log.write_text(f"log of {name}\n")
        if status and status.state == "done":
            run.history.write_bytes(name.encode() * 1000)
    return sweep


def test_status_asks_all_clusters_and_one_that_is_down_stops_nobody(laptop, arnold, uh):
    laptop.describe(arnold={}, uh={}, third={"host": "nowhere.invalid"})
    there(arnold, a=at_epoch(20, "done"), b=at_epoch(3, "failed", error="boom"))
    there(uh, "new", c=at_epoch(5))
    found = json.loads(laptop("status", "--json"))
    assert {(run["cluster"], run["run"], run["state"]) for run in found["runs"]} == {
        ("arnold", "a", "done"), ("arnold", "b", "failed"), ("uh", "c", "lost"),
    }  # fmt: skip
    assert list(found["unreachable"]) == ["third"]
    shown = laptop("status")
    assert "cluster" in shown.splitlines()[0]
    assert "the host nowhere.invalid is unknown; is it spelt as in ~/.ssh/config?" in shown


def test_of_a_cluster_that_went_down_the_last_that_was_known_is_shown_with_its_age(laptop, arnold, make_grid):
    laptop.describe(arnold={})
    make_grid(grid={"seed": {"range": 2}})
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    arnold.login.stop()
    time.sleep(1.1)
    for run in laptop.status("sweep").values():
        assert (run["state"], run["verified"], run["cluster"]) == ("queued", False, "arnold")
        assert run["age"] > 1
    shown = laptop("status")
    assert "queued?" in shown
    assert "arnold can't be reached; its runs are shown as they were" in shown
    assert "arnold does not answer (is it down?)" in laptop("cancel", "sweep", "--yes", code=1)


def test_cancel_retry_and_logs_work_through_it(laptop, arnold, uh, make_grid):
    laptop.describe(arnold={"partition": "main"}, uh={})
    make_grid(grid={"seed": {"range": 2}}, set={"epochs": 500, "model.slow": 0.02})
    laptop("submit", "sweep.yaml", "--split", "arnold,uh")
    wait_for(lambda: "running" in {run["state"] for run in laptop.status("sweep").values()}, "a run to train")
    training = next(name for name, run in laptop.status("sweep").items() if run["cluster"] == "arnold")
    following = subprocess.Popen(
        [sys.executable, "-m", "mtlcluster", "logs", "sweep", training, "-f"],
        cwd=laptop.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any("epoch 1" in line for line in following.stdout)
    assert "cancelled 2 runs" in laptop("cancel", "sweep", "--yes")
    assert following.wait(60) == 0
    assert {run["state"] for run in laptop.status("sweep").values()} == {"cancelled"}
    before = laptop.status("sweep")[training]["epoch"]
    assert "submitted 2 runs of sweep in 2 jobs on arnold, uh" in laptop("retry", "sweep")
    wait_for(lambda: laptop.status("sweep")[training]["epoch"] > before > 0, "the run to go on")
    laptop("cancel", "sweep", "--yes")


def test_waiting_tells_of_a_cluster_that_falls_silent_and_goes_on_when_it_is_back(laptop, arnold, make_grid):
    laptop.describe(arnold={})
    make_grid(grid={"seed": {"range": 2}})
    waiting = subprocess.Popen(
        [sys.executable, "-m", "mtlcluster", "submit", "sweep.yaml", "--cluster", "arnold", "--wait"],
        cwd=laptop.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any("2 queued" in line for line in waiting.stdout)
    arnold.login.stop()
    assert any("arnold can't be reached; retrying: " in line for line in waiting.stdout)
    arnold.login.start()
    assert any("arnold can be reached again" in line for line in waiting.stdout)
    laptop("cancel", "sweep", "--yes")
    assert waiting.wait(60) == 0


def test_from_scratch_with_the_code_as_it_is_now(laptop, arnold, make_grid):
    laptop.describe(arnold={})
    make_grid(grid={"seed": {"range": 2}})
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    laptop("cancel", "sweep", "--yes")
    with open(laptop.folder / "jobs" / "tiny.py", "a") as job:
        job.write("# mended\n")
    laptop("retry", "sweep", "--restart", "--yes")
    sweep = Sweep(arnold.login.home / "mtlcluster" / "runs" / "sweep")
    newest = {next(sweep.code.glob(f"{code}/jobs/tiny.py")).read_text() for code in codes(sweep)}
    assert len(newest) == 1
    assert newest.pop().endswith("# mended\n")
    assert len(arnold.slurm.jobs()) == 2


def test_a_retry_over_there_takes_a_mended_job_unless_there_is_a_checkpoint_and_repairs_the_code(
    laptop, arnold, make_grid
):
    laptop.describe(arnold={})
    make_grid(grid={"seed": {"range": 2}})
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    laptop("cancel", "sweep", "--yes")
    sweep = Sweep(arnold.login.home / "mtlcluster" / "runs" / "sweep")
    [began] = codes(sweep)
    saved = next(run for run in sweep.runs() if "seed=0" in run.name)
    saved.checkpoints.mkdir()
    (saved.checkpoints / "step-000000001.pt.sha256").write_text("")
    (sweep.code / began / "mtlcluster" / "training" / "commands" / "child.py").unlink()
    with open(laptop.folder / "jobs" / "tiny.py", "a") as job:
        job.write("# mended\n")
    laptop("retry", "sweep")
    assert f"  code: {began}" in saved.config.read_text()
    assert (sweep.code / began / "mtlcluster" / "training" / "commands" / "child.py").stat().st_size
    [fresh] = codes(sweep) - {began}
    assert (sweep.code / fresh / "jobs" / "tiny.py").read_text().endswith("# mended\n")
    assert len(arnold.slurm.jobs()) == 2


def test_a_retry_asks_for_what_the_grid_asks_for_now(laptop, arnold, make_grid):
    laptop.describe(arnold={})
    one = {"grid": {"seed": [0]}, "resources": {"time": "9m"}}
    make_grid(**one)
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    laptop("cancel", "sweep", "--yes")
    make_grid(**{**one, "resources": {"time": "11m"}})
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    laptop("retry", "sweep")
    [job] = arnold.slurm.jobs()
    assert "TimeLimit=00:11:00" in arnold.slurm.ask("scontrol", "show", "job", job)


def test_what_was_never_sent_is_not_taken_for_a_run_of_this_machine(laptop, arnold, make_grid):
    laptop.describe(arnold={})
    make_grid(grid={"seed": {"range": 2}})
    arnold.login.cut(2, "before")
    laptop("submit", "sweep.yaml", "--cluster", "arnold", code=1)
    laptop("cancel", "sweep", "--yes")
    assert "submit the grid again" in laptop("retry", "sweep", code=2)
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert len(arnold.slurm.jobs()) == 2
    assert {run["state"] for run in laptop.status("sweep").values()} == {"queued"}


def test_what_was_brought_home_stays_when_the_cluster_is_cleaned(laptop, arnold):
    laptop.describe(arnold={})
    source = there(arnold, a=at_epoch(20, "done"))
    laptop.run("collect", "old")
    shutil.rmtree(source.folder)
    assert [run["state"] for run in laptop.status("old").values()] == ["done"]
    assert "log of a" in laptop("logs", "old", "a")
    assert "change_dir" not in laptop.run("collect", "old").stderr


def codes(sweep: Sweep) -> set[str]:
    return {yaml.safe_load(run.config.read_text())["origin"]["code"] for run in sweep.runs()}


def test_only_what_is_new_comes_home_and_checkpoints_only_when_asked_for(laptop, arnold, uh):
    laptop.describe(arnold={}, uh={})
    source = there(arnold, a=at_epoch(20, "done"), b=at_epoch(20, "done"))
    there(uh, c=at_epoch(20, "done"))
    for checkpoint in ("best-000000100.pt", "best-000000100.pt.sha256", "step-000000120.pt"):
        (source.run("a").checkpoints / checkpoint).parent.mkdir(exist_ok=True)
        (source.run("a").checkpoints / checkpoint).write_text(checkpoint)
    laptop.run("collect", "old")  # no real histories: there is nothing to draw
    sweep = Sweep(laptop.folder / "runs" / "old")
    assert [run.name for run in sweep.runs()] == ["a", "b", "c"]
    for run in sweep.runs():
        assert run.history.read_bytes() == run.name.encode() * 1000
        assert run.log.read_text() == f"log of {run.name}\n"
    assert not list(sweep.folder.glob("*/checkpoints"))
    arnold.login.forget()
    assert "brought home" not in laptop.run("collect", "old").stdout
    assert len(arnold.login.commands()) == 1  # its reply said that nothing is new
    sweep.run("a").log.unlink()
    assert "arnold: brought home 1 files of 1 runs" in laptop.run("collect", "old").stdout
    source.run("b").history.write_bytes(b"longer" * 1000)
    assert "arnold: brought home 1 files of 1 runs" in laptop.run("collect", "old").stdout
    laptop.run("collect", "old", "--checkpoints", "best")
    assert sorted(path.name for path in sweep.run("a").checkpoints.iterdir()) == [
        "best-000000100.pt", "best-000000100.pt.sha256",
    ]  # fmt: skip
    laptop.run("collect", "old", "--checkpoints", "all")
    assert len(list(sweep.run("a").checkpoints.iterdir())) == 3


def test_a_broken_transfer_goes_on_and_what_arrived_wrong_is_copied_again(laptop, arnold, client):
    laptop.describe(arnold={})
    source = there(arnold, a=at_epoch(20, "done"), b=at_epoch(20, "done"))
    big = np.random.default_rng(0).bytes(3_000_000)
    source.run("a").history.write_bytes(big)
    client.reach(arnold.login, cut_after=800_000)
    said = laptop.run("collect", "old")
    assert "the connection to arnold was lost" in said.stdout  # and it was tried again
    assert "the next call goes on from there" in said.stderr
    assert said.returncode == 1
    client.reach(arnold.login)
    sweep = Sweep(laptop.folder / "runs" / "old")
    partial = sweep.run("a").folder / ".partial" / "history.pkl"
    assert partial.stat().st_size > 500_000
    laptop.run("collect", "old")
    assert sweep.run("a").history.read_bytes() == big
    assert not partial.exists()


def test_what_a_torn_copy_left_is_found_by_its_checksum(laptop, arnold, monkeypatch, tmp_path):
    laptop.describe(arnold={})
    source = there(arnold, a=at_epoch(20, "done"))
    real = shutil.which("rsync")
    broken = tmp_path / "ssh" / "bin" / "rsync"  # damages what it has copied, once
    damage = f'touch {tmp_path}/done; printf X | dd of="$last/a/history.pkl" conv=notrunc bs=1 2>/dev/null'
    broken.write_text(
        f'#!/bin/sh\n{real} "$@"\ncode=$?\nfor last; do :; done\n'
        f"[ -e {tmp_path}/done ] || {{ {damage}; }}\nexit $code\n"
    )
    broken.chmod(0o755)
    laptop.run("collect", "old")
    assert (tmp_path / "done").exists()
    assert Sweep(laptop.folder / "runs" / "old").run("a").history.read_bytes() == source.run("a").history.read_bytes()


def test_a_cluster_that_is_down_is_left_out_of_the_report_and_told(laptop, arnold, uh):
    laptop.describe(arnold={}, uh={})
    there(arnold, a=at_epoch(20, "done"))
    there(uh, c=at_epoch(20, "done"))
    arnold.login.stop()
    said = laptop.run("collect", "old").stdout
    assert "arnold is left out: arnold does not answer (is it down?)" in said
    assert [run.name for run in Sweep(laptop.folder / "runs" / "old").runs()] == ["c"]


def test_a_sweep_that_is_nowhere_is_told_with_the_nearest_name(laptop, arnold):
    laptop.describe(arnold={})
    there(arnold, a=at_epoch(20, "done"))
    assert "no sweep 'olf'" in laptop("status", "olf", code=2)
    arnold.login.stop()
    assert "arnold does not answer" in laptop("status", "olf", code=1)


def test_clusters_lists_them_with_their_state(laptop, arnold, uh):
    laptop.describe(arnold={}, uh={"environment": "~/none"}, third={"host": "nowhere.invalid"})
    there(arnold, a=at_epoch(20, "done"))
    lines = laptop("clusters").splitlines()
    assert [line.split()[0] for line in lines] == ["local", "arnold", "uh", "third"]
    assert "ready; 0 of 1 runs queued or running" in lines[1]
    assert "mtlcluster setup --cluster uh" in lines[2]
    assert "unknown" in lines[3]
