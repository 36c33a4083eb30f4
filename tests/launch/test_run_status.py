"""The state of a run, derived from the worker's file, the cancel file and the executor's answer."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rig.handmade import add_runs, at_epoch, fake_program, local_job, new_sweep

from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.processes import slurm_commands
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep


def look(sweep: Sweep) -> dict[str, RunStatus]:
    return {run.run: run for run in observe([sweep])}


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that stands for a worker on this machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("job", "in_file", "cancelled", "expected", "verified"),
    [
        ("alive", None, False, "queued", True),
        ("alive", "queued", False, "queued", True),
        ("alive", "running", False, "running", True),
        ("alive", "running", True, "running", True),
        ("alive", "done", False, "done", True),
        ("alive", "failed", False, "failed", True),
        ("dead", None, False, "lost", True),
        ("dead", "queued", False, "lost", True),
        ("dead", "running", False, "lost", True),
        ("dead", "running", True, "cancelled", True),
        ("dead", "cancelled", True, "cancelled", True),
        ("dead", "done", True, "done", True),
        ("elsewhere", None, False, "queued", False),
        ("elsewhere", "running", False, "running", False),
        ("elsewhere", "done", False, "done", True),
    ],
)
def test_state_of_a_run_on_this_machine(tmp_path, process, job, in_file, cancelled, expected, verified):
    job_id = local_job(process.pid)
    if job == "dead":
        process.kill()  # and never reaped: a zombie still has its entry in /proc
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if job == "elsewhere":
        job_id = "local:another-host:" + job_id.split(":", 2)[2]
    sweep = new_sweep(tmp_path)
    add_runs(sweep, job_id, {"run-1": at_epoch(3, in_file) if in_file else None})
    if cancelled:
        sweep.run("run-1").cancel.touch()
    run = look(sweep)["run-1"]
    assert (run.state, run.verified) == (expected, verified)
    assert run.cancelling == (cancelled and expected == "running")


def test_another_process_of_the_same_number_is_not_the_worker(tmp_path, process):
    sweep = new_sweep(tmp_path)
    add_runs(sweep, local_job(process.pid) + "7", {"run-1": at_epoch(3)})
    assert look(sweep)["run-1"].state == "lost"


def test_a_retried_run_is_queued_until_its_new_worker_begins(tmp_path, process):
    sweep = new_sweep(tmp_path)
    runs = {"failed-1": at_epoch(3, "failed", error="boom"), "done-2": at_epoch(20, "done")}
    add_runs(sweep, "local:another-host:1:1", runs)
    add_runs(sweep, local_job(process.pid), {"failed-1": None}, submission="0002")
    found = look(sweep)
    assert (found["failed-1"].state, found["failed-1"].epoch, found["failed-1"].error) == ("queued", 3, "")
    assert found["done-2"].state == "done"


def test_a_run_whose_submission_was_killed_or_refused_has_no_job(tmp_path):
    sweep = new_sweep(tmp_path)
    sweep.run("run-1").folder.mkdir()
    sweep.run("run-2").folder.mkdir()
    submissions.append(sweep.submissions, "begin", "0001", cluster="slurm", code="c", jobs=[["run-1"]])
    submissions.append(sweep.submissions, "begin", "0002", cluster="slurm", code="c", jobs=[["run-2"]])
    submissions.append(sweep.submissions, "end", "0002", error="sbatch: no")
    assert {(run.state, run.job_id) for run in look(sweep).values()} == {("queued", "")}


@pytest.mark.parametrize(
    "content", [b'{"state": "runn', b"[1]", b"\xff\xfe", b'{"state": "running", "epoch": "x"}', b""]
)
def test_a_status_file_that_is_torn_or_foreign_does_no_harm(tmp_path, process, content):
    sweep = new_sweep(tmp_path)
    add_runs(sweep, local_job(process.pid), {"run-1": at_epoch(3), "run-2": at_epoch(4)})
    sweep.run("run-1").status.write_bytes(content)
    found = look(sweep)
    assert "status.json can't be read" in found["run-1"].notes[-1]
    assert found["run-2"].state == "running"


def test_a_run_that_ends_while_the_scheduler_is_asked_is_not_lost(tmp_path, monkeypatch):
    sweep = new_sweep(tmp_path / "runs")
    add_runs(sweep, "17_0", {"run-1": at_epoch(20, "done")})
    status = sweep.run("run-1").status
    status.rename(tmp_path / "last.json")
    fake_program(tmp_path, monkeypatch, "squeue", f"mv {tmp_path}/last.json {status}")  # and the job is gone
    assert look(sweep)["run-1"].state == "done"


@pytest.mark.parametrize("squeue", ["exec sleep 30", "echo 'Unable to contact slurm controller' >&2; exit 1", None])
def test_without_an_answer_the_last_known_state_is_shown_unverified(tmp_path, monkeypatch, squeue):
    monkeypatch.setattr(slurm_commands, "COMMAND_TIMEOUT", 0.5)
    if squeue:
        fake_program(tmp_path, monkeypatch, "squeue", squeue)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    sweep = new_sweep(tmp_path / "runs")
    add_runs(sweep, "17_0", {"run-1": at_epoch(3), "run-2": at_epoch(20, "done"), "run-3": None})
    found = look(sweep)
    assert {run.run: (run.state, run.verified) for run in found.values()} == {
        "run-1": ("running", False),
        "run-2": ("done", True),
        "run-3": ("queued", False),
    }
    assert "squeue" in found["run-1"].scheduler


def test_slurm_is_not_asked_about_runs_that_have_ended(tmp_path, monkeypatch):
    fake_program(tmp_path, monkeypatch, "squeue", f"touch {tmp_path}/asked")
    sweep = new_sweep(tmp_path / "runs")
    add_runs(sweep, "17_0", {"run-1": at_epoch(20, "done")})
    look(sweep)
    assert not (tmp_path / "asked").exists()
