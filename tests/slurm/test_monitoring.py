"""`status` and `cancel` with a real Slurm. The jobs are shell commands in the place of workers."""

import re
import subprocess

from rig.handmade import add_runs, at_epoch, fake_program, new_sweep
from rig.slurm_cluster import wait_for

from mtlcluster.launch import cancel, select_runs
from mtlcluster.launch.run_status import observe
from mtlcluster.sweep.status import read_status


def sbatch(*options: str) -> str:
    command = ["sbatch", "--parsable", "--output=/dev/null", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def jobs_are(slurm, condition) -> None:
    def met() -> bool:
        now = slurm.jobs(live=False)
        try:
            return condition(now)
        except KeyError:
            return False

    wait_for(met, "the jobs")


def test_states_by_a_real_slurm(tmp_path, slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "high")  # a user's habit must not hide jobs
    array = sbatch("--array=0-1", "--cpus-per-task=1", "--wrap=sleep 60")
    held = sbatch("--hold", "--wrap=true")
    requeued, cancelled, ended = sbatch("--wrap=sleep 60"), sbatch("--wrap=sleep 60"), sbatch("--wrap=true")
    jobs = {"array": f"{array}_1", "packed": f"{array}_0", "held": held, "requeued": requeued}
    jobs |= {"cancelled": cancelled, "ended": ended, "unknown": "4000000"}
    sweep = new_sweep(tmp_path)
    for i, (name, job) in enumerate(jobs.items()):
        add_runs(sweep, job, {name: None if name == "packed" else at_epoch(3)}, submission=f"{i:04}")
    jobs_are(slurm, lambda now: [now[jobs[name]] for name in ("array", "packed", "requeued")] == ["RUNNING"] * 3)
    slurm.ask("scontrol", "requeuehold", requeued)
    slurm.ask("scancel", cancelled)
    expected = ["PENDING", "CANCELLED", "COMPLETED"]
    jobs_are(slurm, lambda now: [now[requeued], now[cancelled], now[ended]] == expected)
    found = {run.run: run for run in observe([sweep])}
    assert {name: run.state for name, run in found.items()} == {
        "array": "running",
        "packed": "queued",
        "held": "queued",
        "requeued": "queued",
        "cancelled": "cancelled",
        "ended": "lost",
        "unknown": "lost",
    }
    assert all(run.verified for run in found.values())
    assert found["held"].scheduler == "PENDING (JobHeldUser)"


def test_accounting_tells_how_a_job_ended_that_squeue_has_forgotten(tmp_path, slurm_with_accounting, monkeypatch):
    cancelled, failed = sbatch("--array=0-3", "--hold", "--wrap=true"), sbatch("--wrap=exit 3")
    slurm_with_accounting.ask("scancel", cancelled)
    sweep = new_sweep(tmp_path / "runs")
    add_runs(sweep, f"{cancelled}_2", {"cancelled": None})
    add_runs(sweep, failed, {"failed": at_epoch(3)}, submission="0002")
    known = ["sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", f"{cancelled},{failed}"]
    wait_for(lambda: {"CANCELLED", "FAILED"} <= set(re.split(r"[| \n]", slurm_with_accounting.ask(*known))), "sacct")
    fake_program(tmp_path, monkeypatch, "squeue", "true")
    found = {run.run: run for run in observe([sweep])}
    assert (found["cancelled"].state, found["failed"].state) == ("cancelled", "lost")
    assert found["failed"].scheduler == "FAILED"


def test_cancel_takes_out_only_jobs_that_have_nothing_else_to_do(tmp_path, slurm, monkeypatch):
    monkeypatch.setattr(cancel, "GRACE", 3.0)
    sweep = new_sweep(tmp_path)
    own, shared = sbatch("--hold", "--wrap=true"), sbatch("--hold", "--wrap=true")
    # A worker that sees the cancel file, saves and ends; and one that hangs.
    run = sweep.run("obeys")
    worker = f"while [ ! -e {run.cancel} ]; do sleep 0.2; done; cp {tmp_path}/last {run.status}"
    obeys, hangs = sbatch(f"--wrap={worker}"), sbatch("--wrap=sleep 60")
    add_runs(sweep, own, {"own": None}, "0001")
    add_runs(sweep, shared, {"shared-meant": None, "shared-other": None}, "0002")
    add_runs(sweep, obeys, {"obeys": at_epoch(3, "cancelled")}, "0003")
    add_runs(sweep, hangs, {"hangs": at_epoch(3)}, "0004")
    run.status.rename(tmp_path / "last")
    add_runs(sweep, obeys, {"obeys": at_epoch(3)}, "0003")
    jobs_are(slurm, lambda now: [now[obeys], now[hangs]] == ["RUNNING"] * 2)
    runs = select_runs.meant(sweep.name, observe([sweep]), ["own", "shared-meant", "obeys", "hangs"])
    cancel.cancel(sweep, runs, print)
    jobs_are(slurm, lambda now: now[hangs] == "CANCELLED" and now[obeys] == "COMPLETED")
    now = slurm.jobs(live=False)
    assert (now[own], now[shared]) == ("CANCELLED", "PENDING")
    found = {run.run: (run.state, run.cancelling) for run in observe([sweep])}
    assert found == {
        "own": ("cancelled", False), "obeys": ("cancelled", False), "hangs": ("cancelled", False),
        "shared-meant": ("queued", True), "shared-other": ("queued", False),
    }  # fmt: skip
    assert read_status(run.status).state == "cancelled"
