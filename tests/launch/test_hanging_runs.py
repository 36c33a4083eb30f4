"""A run that hangs can be cancelled: it is killed after a while, without the other runs, and never while it saves."""

import dataclasses
import json
import os
import re
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.slurm_cluster import wait_for

from mtlcluster.cli import app
from mtlcluster.launch import cancel
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.run_status import observe
from mtlcluster.sweep.locks import is_locked


def call(sweep, *arguments):
    result = CliRunner().invoke(app, [*arguments, "--runs", str(sweep.folder.parent)])
    assert result.exit_code == 0, result.output
    return result.output


def started(found, part):
    wait_for(lambda: (status := found.status(part)) and status.epochs, f"{part} to start")


def is_gone(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return ") Z " in stat.read_text()
    except OSError:
        return True


def pid_of(found, part):
    return json.loads(re.search(r"rank ({.*})", found.log(part))[1])["pid"]


@pytest.mark.usefixtures("fake_child")
def test_what_hangs_is_killed_and_what_saves_or_was_not_meant_goes_on(make_grid, submit_locally, monkeypatch):
    """Submits on two cores. With the fake child the worker waits 2 seconds where it otherwise waits 60."""
    monkeypatch.setattr(cancel, "GRACE", 1.0)
    found = submit_locally(make_grid(grid={"data.path": ["deaf", "slow-save", "frozen", "endless"]}))
    asked = "it will be killed 2 seconds later if it goes on"
    for hanging in ("deaf", "frozen"):
        started(found, hanging)
        assert "1 run will end" in call(found.sweep, "cancel", "sweep", hanging, "--yes")
        [seen] = observe([found.sweep], [found.run(hanging)])
        assert (seen.state, seen.cancelling) == ("running", True)
        wait_for(lambda name=seen.run: asked in str(observe([found.sweep], [name])[0].notes), "the worker's note")
        found.wait(hanging, "cancelled")
        assert "was killed" in found.status(hanging).notes[-1]
        assert is_gone(pid_of(found, hanging))
        lock = found.sweep.run(found.run(hanging)).lock
        wait_for(lambda lock=lock: not is_locked(lock), "it to be nobody's")
    assert found.status("slow-save").state == "running"
    found.sweep.run(found.run("slow-save")).cancel.touch()
    saved = found.wait("slow-save", "cancelled")
    assert (saved.stops_without_progress, saved.notes) == (0, [])
    started(found, "endless")
    assert found.status("endless").state == "running"
    assert "submitted 1 run" in call(found.sweep, "retry", "sweep", "deaf")
    wait_for(lambda: found.status("deaf").submission == "0002" and not found.status("deaf").notes, "the retry")


@pytest.mark.usefixtures("fake_child")
def test_all_processes_of_a_run_are_killed_and_a_worker_that_is_silent(make_grid, submit_locally, monkeypatch):
    monkeypatch.setattr(cancel, "GRACE", 2.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    found = submit_locally(make_grid(grid={"data.path": ["deaf"]}, resources={"gpus": 2}))
    started(found, "deaf")
    wait_for(lambda: found.log().count("rank {") == 2, "both ranks")
    pids = [json.loads(line)["pid"] for line in re.findall(r"rank ({.*})", found.log())]
    found.sweep.run(found.run("deaf")).cancel.touch()
    found.wait("deaf", "cancelled")
    wait_for(lambda: all(is_gone(pid) for pid in pids), "the ranks to end")
    found = submit_locally(make_grid("other", grid={"data.path": ["endless"]}))
    started(found, "endless")
    os.kill(found.worker, signal.SIGSTOP)
    call(found.sweep, "cancel", "other", "--yes")
    wait_for(lambda: observe([found.sweep])[0].state == "cancelled", "the orphaned child to save and end")
    assert "submitted 1 run" in retried(found.sweep)


def retried(sweep):
    """The retry is possible as soon as the orphaned child has saved."""
    wait_for(lambda: not any(is_locked(run.lock) for run in sweep.runs()), "the run to be nobody's")
    return call(sweep, "retry", sweep.name)


@pytest.mark.long
def test_a_run_that_hangs_and_whose_worker_is_dead_ends_by_itself(make_grid, submit_locally, project, monkeypatch):
    """It is killed after a second (otherwise after ten minutes), and the log says where it hangs."""
    take = snapshot.take

    def take_sooner(*of):
        real, name = take(*of), "mtlcluster/training/commands/child.py"
        sooner = real.files[name].replace(b"ORPHANED = 600", b"ORPHANED = 1")
        return dataclasses.replace(real, hash=f"soon{real.hash[4:]}", files={**real.files, name: sooner})

    monkeypatch.setattr(snapshot, "take", take_sooner)
    grid = make_grid(job="loading", grid={"seed": [0]}, set={"data.workers": 0, "data.hang": str(project / "never")})
    found = submit_locally(grid)
    started(found, "")
    os.kill(found.worker, signal.SIGKILL)
    [run] = found.sweep.runs()
    wait_for(lambda: not is_locked(run.lock), "the run to end")
    assert re.search(r"Timeout(.|\n)*loading.py", found.log())
    [seen] = observe([found.sweep])
    assert seen.state == "lost"


@pytest.mark.long
def test_a_loader_that_hangs_on_slurm_is_killed_while_other_runs_of_its_job_go_on(
    make_grid, submit_to_slurm, slurm, project
):
    hang, fine = project / "never", project / "now"
    fine.touch()
    grid = make_grid(
        job="loading", grid={"data.workers": [0, 1], "data.hang": [str(hang), str(fine)]}, runs_per_job=4, at_once=4,
        set={"epochs": 40, "batch_size": 8, "data.slow": 0.1}, resources={"time": "10m"},
    )  # fmt: skip
    found = submit_to_slurm(grid)
    sweep = found.sweep
    found.wait(lambda status: status.epochs, "the runs to start")
    hanging = [run.name for run in sweep.runs() if "never" in run.config.read_text()]
    assert len(hanging) == 2
    call(sweep, "cancel", "sweep", *hanging, "--yes")
    now = lambda: {run.run: run.state for run in observe([sweep])}  # noqa: E731
    wait_for(lambda: all(now()[name] == "cancelled" for name in hanging), "the hanging runs to be killed", 120)
    assert [state for name, state in now().items() if name not in hanging] == ["running"] * 2
    call(sweep, "cancel", "sweep", "--yes")
    wait_for(lambda: set(now().values()) == {"cancelled"}, "the others to stop", 60)
    wait_for(lambda: not slurm.jobs(), "the job to end", 60)
