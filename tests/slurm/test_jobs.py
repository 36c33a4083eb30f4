"""Jobs on a real Slurm, with real training: packed, preempted, requeued, timed out, cancelled."""

import time

import numpy as np
import pytest
from rig.slurm_cluster import wait_for

from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.history import read_history

SLOW = {"epochs": 6, "model": {"slow": 0.1}, "batch_size": 50}  # 6 epochs of 3 steps
PACKED = {"grid": {"seed": {"range": 2}}, "set": SLOW, "runs_per_job": 2, "at_once": 2}


def series(sweep):
    return {run.name: read_history(run.history)["series"] for run in sweep.runs()}


def assert_same_series(ours, theirs):
    for run, values in ours.items():
        assert values.keys() == theirs[run].keys()
        for name, curve in values.items():
            for key, array in curve.items():
                np.testing.assert_array_equal(array, theirs[run][name][key], err_msg=f"{run} {name}")


@pytest.fixture(scope="module")
def undisturbed():
    """The series of PACKED's runs when they train undisturbed."""
    return {}


def left_alone(undisturbed, make_grid, submit_to_slurm):
    if not undisturbed:
        sweep = submit_to_slurm(make_grid("same", **PACKED), runs="undisturbed")
        sweep.wait_until_done()
        undisturbed.update(series(sweep.sweep))
    return undisturbed


def test_packed_runs_share_a_job_whose_script_is_the_one_of_the_dry_run(
    slurm, project, make_grid, submit_to_slurm, undisturbed, monkeypatch
):
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")  # as when one submits from inside an interactive job
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet,mask_cpu:0x10")
    monkeypatch.setenv("SLURM_GPUS_PER_NODE", "1")
    grid = make_grid("packed", **{**PACKED, "grid": {"seed": {"range": 3}}})
    shown = preview(grid, project / "runs", "slurm")
    assert not (project / "runs").exists()
    sweep = submit_to_slurm(grid)
    first, second = sweep.submitted.job_ids
    script = (sweep.sweep.folder / "submissions/0001/batch.sh").read_text()
    assert script.strip() in shown
    for line in ("--cpus-per-task=2", "--mem=1000M", "--time=5", "--array=0-1%2", "--requeue"):
        assert f"#SBATCH {line}" in script
    sweep.wait_until_done()
    assert [status.job_id for status in sweep.statuses()] == [first, first, second]
    assert {status.attempt for status in sweep.statuses()} == {1}
    undisturbed.update(series(sweep.sweep))
    again = submit(grid, project / "runs", "slurm", print)
    assert (again.submitted, again.left) == ([], {"done": [run.name for run in sweep.sweep.runs()]})


def test_preempted_with_a_signal_it_goes_on_exactly(slurm, make_grid, submit_to_slurm, undisturbed):
    expected = left_alone(undisturbed, make_grid, submit_to_slurm)
    sweep = submit_to_slurm(make_grid("same", **PACKED))
    sweep.wait_until_training()
    slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    finish_after_requeue(slurm, sweep)
    assert_same_series(series(sweep.sweep), expected)


def test_preempted_by_sigterm_alone_it_goes_on_exactly(slurm, make_grid, submit_to_slurm, undisturbed):
    expected = left_alone(undisturbed, make_grid, submit_to_slurm)
    with slurm.configured(SlurmctldParameters=None):
        sweep = submit_to_slurm(make_grid("same", **PACKED))
        sweep.wait_until_training()
        slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        finish_after_requeue(slurm, sweep)
    assert_same_series(series(sweep.sweep), expected)


def finish_after_requeue(slurm, sweep):
    """Both runs were stopped, and their job is back in the queue; then they are done at their second attempt."""
    [job] = sweep.submitted.job_ids
    sweep.wait(lambda status: status.state == "queued", "runs to be stopped")
    slurm.release(job)
    sweep.wait_until_done()
    assert {status.attempt for status in sweep.statuses()} == {2}


def test_signalled_while_importing_and_twice_it_is_requeued(slurm, make_grid, submit_to_slurm):
    """For example at a time limit: USR2 comes before the worker is ready, and again while its child imports torch."""
    sweep = submit_to_slurm(make_grid("early", grid={"seed": [0]}, set={"epochs": 1}))
    [job] = sweep.submitted.job_ids
    for _ in range(2):
        wait_for(lambda: f"{job}.0" in slurm.ask("squeue", "-h", "-s", "-o", "%i"), f"{job} to have a step")
        time.sleep(0.2)  # a step is listed a moment before it can be signalled
        for _ in range(3):
            slurm.ask("scancel", "-s", "USR2", job)
        slurm.release(job)
    sweep.wait_until_done()
    wait_for(lambda: slurm.jobs(live=False)[job] == "COMPLETED", "the job to end")


def test_cancelled_it_saves_and_stays_cancelled(slurm, make_grid, submit_to_slurm):
    sweep = submit_to_slurm(make_grid("cancelled", grid={"seed": [0]}, set=SLOW))
    [job] = sweep.submitted.job_ids
    sweep.wait_until_training()
    slurm.ask("scancel", job)
    wait_for(lambda: not slurm.jobs(), "the job to end")
    assert slurm.jobs(live=False)[job] == "CANCELLED"
    assert sweep.states() == {"queued"}  # as far as the worker knows; `status` asks Slurm, too
    assert sweep.statuses()[0].stops_without_progress == 0


@pytest.mark.long
def test_at_the_time_limit_it_is_requeued_and_goes_on(slurm, make_grid, submit_to_slurm):
    """Slurm looks at time limits every half minute."""
    sweep = submit_to_slurm(make_grid("late", grid={"seed": [0]}, set={**SLOW, "epochs": 150}))
    [job] = sweep.submitted.job_ids
    sweep.wait_until_training()
    slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=2")  # the signal is due 75 s before
    wait_for(lambda: slurm.jobs()[job] == "PENDING", "the job to be requeued", seconds=100)
    assert sweep.statuses()[0].stops_without_progress == 0
    slurm.release(job)
    sweep.wait(lambda status: status.attempt == 2 and status.state == "running", "the second attempt")


def test_with_accounting(slurm_with_accounting, make_grid, submit_to_slurm):
    slurm = slurm_with_accounting
    sweep = submit_to_slurm(make_grid("accounted", grid={"data.broken": [False, True]}, set={"epochs": 1}))
    good, bad = sweep.submitted.job_ids
    sweep.wait(lambda status: status.state in ("done", "failed"), "runs to end")
    sacct = ["sacct", "--noheader", "--allocations", "--format=JobID,State", "--parsable2"]
    wait_for(lambda: set(slurm.ask(*sacct).splitlines()) == {f"{good}|COMPLETED", f"{bad}|FAILED"}, "sacct")
