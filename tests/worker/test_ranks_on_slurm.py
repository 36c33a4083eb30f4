"""Runs on several nodes of a real Slurm. All but one with a child that keeps the protocol and trains nothing."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from rig.slurm_cluster import wait_for

from mtlcluster.launch.dry_run import preview
from mtlcluster.sweep.history import read_history


def on_two_nodes(make_grid, *words, gpus=0, **keys):
    return make_grid(grid={"data.path": list(words)}, resources={"nodes": 2, "gpus": gpus, "cpus": 2}, **keys)


def ranks(sweep, run=0):
    """What each rank of the run's last attempt has seen."""
    log = sweep.sweep.runs()[run].log
    last = log.read_text().rpartition("--- attempt")[2] if log.exists() else ""
    lines = re.finditer(r"(?m)^(?:\[rank (\d)\] )?rank ({.*})$", last)
    return dict(sorted((int(line[1] or 0), json.loads(line[2])) for line in lines))


def started(sweep, count, attempt=1):
    sweep.wait(lambda status: status.attempt == attempt and status.epochs and status.state == "running", "rank 0")
    wait_for(lambda: len(ranks(sweep)) == count, f"{count} ranks; {sweep.output()}")
    return ranks(sweep)


def assert_all_gone(seen):
    wait_for(lambda: not any(Path(f"/proc/{rank['pid']}").exists() for rank in seen.values()), "all ranks to end")


@pytest.mark.usefixtures("fake_child")
@pytest.mark.parametrize("gpus_as", ["per_node", "gres"])
def test_ranks_are_on_their_nodes_and_runs_follow_each_other(
    slurm, project, make_grid, submit_to_slurm, monkeypatch, gpus_as
):
    monkeypatch.setenv("SLURM_GPUS_PER_NODE", "1")  # as when one submits from inside an interactive job
    (project / "clusters.yaml").write_text(f"slurm: {{gpus_as: {gpus_as}}}\n")
    grid = on_two_nodes(make_grid, "a", "b", gpus=2, runs_per_job=2)
    shown = preview(grid, project / "runs", "slurm")
    assert "\na run is trained by 4 processes (ranks), on 2 nodes\n" in shown
    assert "for 1 job ---" in shown
    sweep = submit_to_slurm(grid)
    sweep.wait_until_done()
    for run in (0, 1):
        seen = ranks(sweep, run)
        places = [(r["RANK"], r["LOCAL_RANK"], r["SLURMD_NODENAME"]) for r in seen.values()]
        assert places == [("0", "0", "n1"), ("1", "1", "n1"), ("2", "0", "n2"), ("3", "1", "n2")]
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "threads"):
            assert len({rank[name] for rank in seen.values()}) == 1
        assert (seen[0]["WORLD_SIZE"], seen[0]["LOCAL_WORLD_SIZE"], seen[0]["threads"]) == ("4", "2", "1")
        log = sweep.sweep.runs()[run].log.read_text()
        assert re.findall(r'"CUDA_VISIBLE_DEVICES": "([\d,]*)"', log) == ["0,1"] * 4
        assert log.count('"ignored": ["USR2", "TERM", "INT"]') == 4
    assert not list(sweep.sweep.folder.glob("submissions/*/*.nodes"))
    wait_for(lambda: set(slurm.jobs(live=False).values()) >= {"COMPLETED"} and not slurm.jobs(), "the job to end")


@pytest.mark.usefixtures("fake_child")
@pytest.mark.parametrize("user_signal", [True, False])
def test_preempted_it_saves_is_requeued_and_goes_on(slurm, make_grid, submit_to_slurm, user_signal):
    """By USR2, or by TERM alone, which must leave the ranks on the other node alive while rank 0 saves."""
    with slurm.configured(**({} if user_signal else {"SlurmctldParameters": None})):
        sweep = submit_to_slurm(on_two_nodes(make_grid, "endless"))
        seen = started(sweep, 2)
        assert [rank["SLURMD_NODENAME"] for rank in seen.values()] == ["n1", "n2"]
        slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        sweep.wait(lambda status: status.state == "queued", "the run to be stopped")
        assert (sweep.sweep.runs()[0].folder / "step").read_text() == "1"
        assert sweep.statuses()[0].stops_without_progress == 0
        assert_all_gone(seen)
        [job] = sweep.submitted.job_ids
        slurm.release(job)
        again = started(sweep, 2, attempt=2)
        assert [rank["SLURMD_NODENAME"] for rank in again.values()] == ["n1", "n2"]
        slurm.ask("scancel", job)
        wait_for(lambda: not slurm.jobs(), "the job to end")
        assert slurm.jobs(live=False)[job] == "CANCELLED"
        assert_all_gone(again)


@pytest.mark.usefixtures("fake_child")
def test_a_rank_that_fails_on_another_node_fails_the_run_and_not_the_next(slurm, make_grid, submit_to_slurm):
    sweep = submit_to_slurm(on_two_nodes(make_grid, "rank-1-fails", "then", runs_per_job=2))
    sweep.wait(lambda status: status.state in ("failed", "done"), "both to end")
    found = {status.state: status.error for status in sweep.statuses()}
    assert found == {"failed": "rank 1: ended with exit status 1: ValueError: rank 1 is unwell", "done": ""}
    [job] = set(sweep.submitted.job_ids)
    wait_for(lambda: slurm.jobs(live=False)[job] == "FAILED", "the job to end")


@pytest.mark.usefixtures("fake_child")
@pytest.mark.parametrize("who", ["worker", "keeper"])
def test_whoever_is_killed_leaves_nobody_behind(slurm, make_grid, submit_to_slurm, who):
    sweep = submit_to_slurm(on_two_nodes(make_grid, "hung"))
    seen = started(sweep, 2)
    rank = seen[0 if who == "worker" else 1]["pid"]
    os.kill(int(Path(f"/proc/{rank}/stat").read_text().rpartition(") ")[2].split()[1]), signal.SIGKILL)
    assert_all_gone(seen)
    if who == "keeper":
        sweep.wait(lambda status: status.state == "failed", "the run to fail")
        assert "the process that looked after it is gone" in sweep.statuses()[0].error
    wait_for(lambda: not slurm.jobs(), "the job to end", seconds=90)


def test_two_nodes_train_one_run_and_go_on_exactly_after_a_preemption(slurm, make_grid, submit_to_slurm):
    settings = {"grid": {"seed": [0]}, "resources": {"nodes": 2, "cpus": 1}}
    slow = {"epochs": 6, "model": {"slow": 0.1}, "batch_size": 50, "method": {"schedule": "dsg", "gradient": "pcgrad"}}
    whole = submit_to_slurm(make_grid("whole", set=slow, **settings), runs="whole")
    whole.wait_until_done()
    [expected] = [read_history(run.history) for run in whole.sweep.runs()]
    assert expected["info"]["ranks"] == 2
    assert np.isfinite(expected["series"]["validation/mean_loss"]["value"]).all()
    sweep = submit_to_slurm(make_grid("preempted", set=slow, **settings))
    sweep.wait_until_training()
    slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    sweep.wait(lambda status: status.state == "queued", "the run to be stopped")
    slurm.release(sweep.submitted.job_ids[0])
    sweep.wait_until_done()
    [status], [run] = sweep.statuses(), sweep.sweep.runs()
    assert status.attempt == 2
    series = read_history(run.history)["series"]
    for name, curve in expected["series"].items():
        np.testing.assert_array_equal(series[name]["value"], curve["value"], err_msg=name)
