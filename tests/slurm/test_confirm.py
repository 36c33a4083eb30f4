"""Trials and confirming runs from one `submit` on a real Slurm: dependencies, preemption, requeue, a killed submit."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rig.search import as_search
from rig.slurm_cluster import wait_for

from mtlcluster.config.grid import read_grid
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.submit import submit
from mtlcluster.sweep import submissions
from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.history import read_history

KILLED_SUBMIT = Path(__file__).parents[1] / "rig" / "killed_submit.py"
SLOW = {"epochs": 6, "model": {"slow": 0.1}, "batch_size": 50}  # 6 epochs of 3 steps
CONFIRM = "equal-choice=1-seed=1"


def by_name(sweep):
    return {run.run: run for run in observe([sweep])}


def dependency(slurm, job):
    return slurm.ask("squeue", "-h", "-j", job, "-o", "%E")


def preempt(slurm):
    slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")


def wait_until_ended(slurm, sweep, seconds=120):
    """Releases what was preempted, until all runs have ended."""
    deadline = time.monotonic() + seconds
    while not all(run.ended for run in observe([sweep])):
        assert time.monotonic() < deadline, by_name(sweep)
        for job in {run.job_id for run in observe([sweep]) if "BeginTime" in run.scheduler}:
            slurm.release(job)
        time.sleep(0.5)


def test_preempted_as_trial_and_as_confirming_run_they_end_as_on_this_machine(
    slurm, project, make_grid, submit_to_slurm, submit_locally
):
    grid = make_grid(grid={"optimizer.lr": [0.01, 0.02], "seed": [0]}, set=SLOW)
    as_search(grid, project / "runs", [1])
    here = submit_locally(grid)
    wait_for(lambda: all(run.ended for run in observe([here.sweep])), "this machine's runs", 90)

    there = as_search(grid, project / "there", [1])
    submit(grid, project / "there", "slurm", print)
    waiting = by_name(there)[CONFIRM]
    trials = {run.job_id.partition("_")[0] for run in observe([there]) if run.roles == ["trial"]}
    assert dependency(slurm, waiting.job_id) == f"afterany:{trials.pop()}_*(unfulfilled)"
    wait_for(lambda: any(run.epoch >= 1 for run in observe([there])), "a trial to train")
    preempt(slurm)
    wait_for(lambda: any("BeginTime" in run.scheduler for run in observe([there])), "a preemption")
    assert by_name(there)[CONFIRM].state == "queued"
    while not read_choices(there.folder, "equal"):
        for job in {run.job_id for run in observe([there]) if "BeginTime" in run.scheduler}:
            slurm.release(job)
        time.sleep(0.3)
    [choice] = read_choices(there.folder, "equal")
    name = choice.runs[1]
    wait_for(lambda: by_name(there)[name].epoch >= 1, "the confirming run to train", 90)
    preempt(slurm)
    wait_for(lambda: "BeginTime" in by_name(there)[name].scheduler, "its preemption")
    wait_until_ended(slurm, there)
    after = by_name(there)
    assert {run.state for run in after.values()} == {"done"}
    assert after[name].attempt == 2
    assert max(run.attempt for run in after.values() if run.roles == ["trial"]) == 2
    [undisturbed] = read_choices(here.sweep.folder, "equal")
    assert (choice.trial, choice.runs) == (undisturbed.trial, undisturbed.runs)
    for run in after:
        ours, theirs = (read_history(s.run(run).history)["series"] for s in (there, here.sweep))
        assert ours.keys() == theirs.keys()
        for curve in ours:
            for key in ours[curve]:
                np.testing.assert_array_equal(ours[curve][key], theirs[curve][key], err_msg=f"{run} {curve}")


def test_a_confirming_job_that_comes_too_early_is_put_back_for_minutes(slurm, project, make_grid, fake_child):
    def submit_trials(lr, **resources):
        points = {"method": ["equal"], "optimizer.lr": lr, "data.path": ["scored"]}
        grid = make_grid(grid={**points, "seed": [0]}, resources=resources)
        sweep = as_search(grid, project / "runs", [1])
        submit(grid, project / "runs", "slurm", print)
        return sweep

    sweep = submit_trials([0.1], partition="closed")
    job = by_name(sweep)[CONFIRM].job_id
    slurm.ask("scontrol", "update", f"JobId={job}", "Partition=main")
    submit_trials([0.1, 0.2], partition="closed")  # chosen from, too: there is one choice, not two
    first, second = sorted((run for run in observe([sweep]) if run.roles == ["trial"]), key=lambda run: run.trial)
    assert len(submissions.read(sweep.submissions)) == 3
    slurm.ask("scontrol", "update", f"JobId={first.job_id}", "Partition=main")
    wait_for(lambda: "BeginTime" in by_name(sweep)[CONFIRM].scheduler, "the job to be put back", 90)
    show = slurm.ask("scontrol", "--oneliner", "show", "job", job)
    when = time.mktime(time.strptime(show.partition("EligibleTime=")[2].split()[0], "%Y-%m-%dT%H:%M:%S"))
    assert 150 < when - time.time() <= 300
    waiting = by_name(sweep)[CONFIRM]
    assert (waiting.state, waiting.notes[-1]) == ("queued", f"waits for {second.run}")
    slurm.ask("scancel", second.job_id)
    slurm.release(job)
    wait_until_ended(slurm, sweep)
    [choice] = read_choices(sweep.folder, "equal")
    assert [candidate.state for candidate in choice.candidates] == ["done", "cancelled"]
    assert by_name(sweep)[choice.runs[1]].state == "done"


POINTS = ["begun", "sbatch returned", "after the end", "second begun", "second sbatch returned", "after the second end"]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_submit_is_completed_by_the_next(slurm, project, make_grid, point):
    grid = make_grid(grid={"optimizer.lr": [0.1, 0.2], "seed": [0]}, resources={"partition": "closed"})
    sweep = as_search(grid, project / "runs", [1, 2])
    command = [sys.executable, str(KILLED_SUBMIT), str(grid.path), str(project / "runs"), point]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    submit(grid, project / "runs", "slurm", print)
    by_run = submissions.latest(submissions.read(sweep.submissions))
    assert {job for _, job in by_run.values()} == slurm.jobs().keys()
    assert len(slurm.jobs()) == 4
    assert {run for run in by_run if "choice" in run} == {CONFIRM, "equal-choice=1-seed=2"}
    trials = {job for run, (_, job) in by_run.items() if "choice" not in run}
    for run in (CONFIRM, "equal-choice=1-seed=2"):
        assert all(job.partition("_")[0] in dependency(slurm, by_run[run][1]) for job in trials)


def test_a_confirming_job_depends_on_the_trials_of_its_own_method_alone(slurm, project, make_grid):
    points = {"method": ["equal", "pcgrad"], "optimizer.lr": [0.1, 0.2], "seed": [0]}
    grid = make_grid(grid=points, resources={"partition": "closed"})
    sweep = as_search(grid, project / "runs", [1, 2])
    submit(grid, project / "runs", "slurm", print)
    for method in ("equal", "pcgrad"):
        jobs = sorted(run.job_id for run in observe([sweep]) if run.method == method and run.roles == ["trial"])
        wanted = ",".join(f"afterany:{job}(unfulfilled)" for job in jobs)
        confirming = [run.job_id for run in observe([sweep]) if run.method == method and run.roles == ["confirm"]]
        assert [dependency(slurm, job) for job in confirming] == [wanted] * 2
    assert len(slurm.jobs()) == 8


def test_the_dry_run_shows_the_script_of_the_confirming_jobs(slurm, project):
    keys = {"name": "sweep", "job": "tiny", "grid": {"method": ["equal"], "optimizer.lr": [0.1, 0.2]}}
    keys |= {"tune": {"trials": 2}, "confirm": {"seeds": 3}, "resources": {"time": "5m"}, "runs_per_job": 2}
    (project / "sweep.yaml").write_text(json.dumps(keys))
    shown = preview(read_grid(project / "sweep.yaml"), project / "runs", "slurm")
    trials, confirming = shown.split("--- sbatch script ")[1:]
    assert "dependency" not in trials
    assert "#SBATCH --dependency=afterany:THE_JOBS_OF_ITS_TRIALS\n" in confirming
    assert "#SBATCH --array=0-1%2\n" in confirming
