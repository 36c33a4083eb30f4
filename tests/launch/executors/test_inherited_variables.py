"""Variables of sbatch and srun in the submitting shell, set by a module, a site or an `salloc`.

No job takes an option from them: what the grid and the cluster file say holds.
"""

import pytest

from mtlcluster.errors import SchedulerError
from mtlcluster.launch.dry_run import preview
from mtlcluster.processes.slurm_commands import run_slurm

# Each of these variables would change, kill or hide a job.
OF_SBATCH = {
    "TIMELIMIT": "1", "PARTITION": "closed", "EXPORT": "NONE", "ARRAY_INX": "7-9", "JOB_NAME": "theirs", "DEBUG": "1",
    "NO_REQUEUE": "1", "OUTPUT": "/dev/null", "ERROR": "/dev/null", "INPUT": "/nowhere", "OPEN_MODE": "truncate",
    "MEM_PER_CPU": "1", "MEM_PER_NODE": "1", "GRES": "gpu:1", "GPUS": "2", "SIGNAL": "KILL@3600", "WAIT": "1",
    "CLUSTERS": "mars", "GET_USER_ENV": "1", "EXCLUSIVE": "", "THREADS_PER_CORE": "9",
    "CORE_SPEC": "1", "WCKEY": "theirs", "NO_KILL": "", "CPUS_PER_GPU": "7", "DISTRIBUTION": "plane=3",
}  # fmt: skip
OF_A_JOB = {
    "CLUSTERS": "mars", "TIMELIMIT": "1", "EXPORT_ENV": "NONE", "NTASKS": "7", "NPROCS": "7", "NNODES": "3",
    "JOB_ID": "999999", "JOBID": "999999", "ARRAY_TASK_ID": "5", "ARRAY_JOB_ID": "4", "MEM_PER_CPU": "1",
    "CPU_BIND": "quiet,mask_cpu:0x10", "CPU_BIND_TYPE": "mask_cpu:", "GRES": "gpu:9", "GPUS_PER_NODE": "9",
    "PARTITION": "nowhere", "STDOUTMODE": "/dev/null", "WORKING_DIR": "/nowhere", "PROLOG": "/bin/false",
    "HOSTFILE": "/nowhere", "OVERCOMMIT": "1", "STEP_GRES": "gpu:9", "RESTART_COUNT": "9", "TASK_PROLOG": "/bin/false",
    "CPUS_PER_TASK": "9", "TRES_PER_TASK": "cpu:9", "PROCID": "3", "JOB_NAME": "theirs", "TIME_FORMAT": "relative",
}  # fmt: skip
OTHERS = {
    "SRUN_CPUS_PER_TASK": "9", "SRUN_EXPORT_ENV": "NONE", "SRUN_CONTAINER": "/nowhere", "SALLOC_TIMELIMIT": "1",
    "SQUEUE_STATES": "SUSPENDED", "SQUEUE_FORMAT": "%u", "SCANCEL_INTERACTIVE": "1", "SCANCEL_STATE": "SUSPENDED",
    "SCANCEL_PARTITION": "nowhere", "SUBMITIT_PREEMPT_SIGNAL": "KILL", "_SLURM_SPANK_OPTION_x": "1",
}  # fmt: skip
HOSTILE = (
    {f"SBATCH_{name}": value for name, value in OF_SBATCH.items()}
    | {f"SLURM_{name}": value for name, value in OF_A_JOB.items()}
    | OTHERS
)
CLUSTER = """lab:
  partition: main
  setup: ["env > '{folder}/batch'", "srun env > '{folder}/step'"]
"""


@pytest.fixture
def hostile(monkeypatch):
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OF_THE_USER", "with blanks")


def environment(path):
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines())


def test_no_inherited_variable_reaches_a_job_and_a_requeued_one_keeps_its_own(
    slurm, project, make_grid, submit_to_slurm, monkeypatch, hostile
):
    (project / "clusters.yaml").write_text(CLUSTER.format(folder=project))
    sweep = submit_to_slurm(make_grid(
        cluster="lab",
        grid={"seed": [0]},
        set={"epochs": 50, "model.slow": 0.1, "batch_size": 50},
        resources={"time": "10m"},
    ), cluster="lab")  # fmt: skip
    [job] = sweep.submitted.job_ids
    asked = slurm.ask("scontrol", "show", "job", job)
    for said in ("TimeLimit=00:10:00", "Partition=main", "JobName=sweep", "MinMemoryNode=500M", "NumCPUs=1"):
        assert said in asked
    sweep.wait_until_training()
    before = {where: environment((project / where).rename(project / "seen")) for where in ("batch", "step")}
    slurm.ask("scancel", "-s", "TERM", job)  # the worker asks squeue whether its job still runs, then for a requeue
    sweep.wait(lambda status: status.state == "queued", "the run to be stopped")
    slurm.release(job)
    sweep.wait(lambda status: status.attempt == 2, "the second attempt")
    after = {where: environment(project / where) for where in ("batch", "step")}
    for found in (*before.values(), *after.values()):
        assert found["OF_THE_USER"] == "with blanks"
        assert found["SLURM_JOB_ID"] == job
        taken = {name for name in HOSTILE.keys() & found.keys() if found[name] == HOSTILE[name]}
        assert taken <= {"SUBMITIT_PREEMPT_SIGNAL"}, taken


def test_an_array_has_the_jobs_of_the_grid(slurm, project, make_grid, submit_to_slurm, hostile):
    asked = {"partition": "closed"}
    sweep = submit_to_slurm(make_grid(grid={"seed": {"range": 3}}, resources=asked))
    assert slurm.jobs().keys() == set(sweep.submitted.job_ids)
    assert [job.partition("_")[2] for job in sweep.submitted.job_ids] == ["0", "1", "2"]


def test_what_the_grid_leaves_open_may_come_from_the_environment_and_is_shown(
    slurm, project, make_grid, submit_to_slurm, monkeypatch
):
    monkeypatch.setenv("SBATCH_ACCOUNT", "their lab")
    monkeypatch.setenv("SBATCH_PARTITION", "closed")
    monkeypatch.setenv("SBATCH_QOS", "")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    grid = make_grid(grid={"seed": [0]})
    shown = preview(grid, project / "runs", "slurm")
    assert "from the environment: SBATCH_ACCOUNT=their lab, SBATCH_PARTITION=closed" in shown
    assert "not taken from the environment: SBATCH_QOS, SBATCH_TIMELIMIT" in shown
    assert "#SBATCH --account='their lab'\n" in shown
    sweep = submit_to_slurm(grid)
    assert "from the environment: SBATCH_ACCOUNT=their lab, SBATCH_PARTITION=closed" in sweep.submitted.notes
    job = slurm.ask("scontrol", "show", "job", sweep.submitted.job_ids[0])
    assert "Account=their lab" in job
    assert "Partition=closed" in job
    assert (sweep.sweep.folder / "submissions/0001/batch.sh").read_text().strip() in shown
    both = make_grid("other", grid={"seed": [0]}, resources={"partition": "main", "account": "ours"})
    stated = preview(both, project / "runs", "slurm")
    assert "from the environment: SBATCH" not in stated.replace("not taken from the environment", "")
    assert "#SBATCH --account=ours\n#SBATCH --array" not in stated
    assert "#SBATCH --partition=main\n" in stated


def test_a_refusal_names_what_came_from_the_environment(slurm, project, make_grid, submit_to_slurm, monkeypatch):
    monkeypatch.setenv("SBATCH_CONSTRAINT", "theirs")
    with pytest.raises(SchedulerError, match=r"Invalid feature.*; from the environment: SBATCH_CONSTRAINT=theirs"):
        submit_to_slurm(make_grid(grid={"seed": [0]}))


def test_queue_and_cancel_see_every_job(slurm, project, make_grid, submit_to_slurm, hostile):
    sweep = submit_to_slurm(make_grid(grid={"seed": {"range": 2}}, resources={"partition": "closed"}))
    assert len(run_slurm("squeue", "--noheader", "--array", "--format=%i").split()) == 2
    run_slurm("scancel", *sweep.submitted.job_ids)
    assert slurm.jobs() == {}
