"""A trial on two nodes of a real Slurm is pruned, and taken up again in a job that is preempted."""

from rig.slurm_cluster import wait_for

from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_status import observe


def test_a_trial_of_two_ranks_is_pruned_and_taken_up_again_through_a_preemption(slurm, make_grid, submit_to_slurm):
    grid = make_grid(
        grid={"method": ["equal"], "optimizer.lr": [0.01, 1e-6]},
        include=[{"method": "equal", "optimizer.lr": 0.01}],  # the first one is the better one
        set={"epochs": 8, "batch_size": 50, "model": {"slow": 0.1}},
        tune={"trials": 2, "prune": {"at": [0.25], "keep": 0.5}},
        resources={"nodes": 2, "cpus": 1},
        runs_per_job=2,
    )
    sweep = submit_to_slurm(grid)

    def trials():
        return sorted(observe([sweep.sweep]), key=lambda run: run.trial)

    wait_for(lambda: all(run.ended for run in trials()), "both trials to end", 120)
    assert [run.state for run in trials()] == ["done", "pruned"], sweep.output()
    behind = trials()[1]
    assert 6 <= behind.step < behind.steps == 24
    wait_for(lambda: not slurm.jobs(), "the job to end")
    assert slurm.jobs(live=False)[behind.job_id] == "COMPLETED"

    resubmit(sweep.sweep, [behind.run], restart=False, say=print)
    wait_for(lambda: trials()[1].state == "running" and trials()[1].step > behind.step, "it to go on", 60)
    slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_for(lambda: "BeginTime" in trials()[1].scheduler, "its preemption")
    slurm.release(trials()[1].job_id)
    wait_for(lambda: trials()[1].ended, "it to end", 90)
    after = trials()[1]
    assert (after.state, after.step, after.attempt) == ("done", 24, 3)
