"""Which jobs go back into the queue after their runs were stopped: those that were preempted, whatever squeue is told
to leave out, and none that its user has taken out of the queue.
"""

from rig.slurm_cluster import wait_for

from mtlcluster.launch.run_status import observe

FILTERS = "export SQUEUE_PARTITION=high SQUEUE_STATES=PD SQUEUE_FORMAT=%u SQUEUE_USERS=nobody"


def test_a_filter_of_the_queue_inside_the_job_loses_no_run(slurm, project, make_grid, submit_to_slurm, fake_child):
    """Nor does a squeue of the site's that says nothing; but what was cancelled stays so."""
    squeue = project / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\n")
    squeue.chmod(0o755)
    (project / "clusters.yaml").write_text(f"lab:\n  setup: ['{FILTERS}', 'export PATH={squeue.parent}:$PATH']\n")
    sweep = submit_to_slurm(make_grid(grid={"seed": [0, 1]}, set={"data.path": "endless"}), cluster="lab")
    sweep.wait(lambda status: status.state == "running" and status.epochs, "the runs to be ready")
    preempted, cancelled = sweep.submitted.job_ids
    slurm.ask("scancel", "-s", "TERM", preempted)
    slurm.ask("scancel", cancelled)
    sweep.wait(lambda status: status.state == "queued", "the runs to stop")
    wait_for(lambda: slurm.jobs().keys() == {preempted}, "the cancelled job to end")
    slurm.release(preempted)
    wait_for(lambda: sorted(status.attempt for status in sweep.statuses()) == [1, 2], "the second attempt")


def test_a_job_that_is_cancelled_after_its_warning_does_not_come_back(slurm, make_grid, submit_to_slurm, fake_child):
    sweep = submit_to_slurm(make_grid(grid={"seed": [0]}, set={"data.path": "slow-save"}))
    sweep.wait(lambda status: status.state == "running" and status.epochs, "the run to be ready")
    [job] = sweep.submitted.job_ids
    slurm.ask("scancel", "-s", "USR2", job)  # its time is nearly over, and it saves
    slurm.ask("scancel", job)
    sweep.wait(lambda status: status.state == "queued", "the run to stop")
    wait_for(lambda: job not in slurm.jobs(), "the job to end")
    [run] = observe([sweep.sweep])
    assert (run.state, run.scheduler) == ("cancelled", "CANCELLED")
