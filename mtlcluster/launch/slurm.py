"""Slurm as an executor, through submitit: batch scripts, arrays, and the jobs of a `submit` that was killed."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mtlcluster.config.cluster import Cluster
from mtlcluster.errors import SchedulerError, UserError
from mtlcluster.launch import environment, worker
from mtlcluster.launch.pack import Array
from mtlcluster.launch.scheduler import run_slurm, scancel
from mtlcluster.sweep.folder import Sweep

if TYPE_CHECKING:               # a quarter of a second, which only a submission need pay
    from submitit import SlurmExecutor

SIGNAL_DELAY = 90           # seconds before the time limit at which runs are told to save; a quarter of a short limit

# What an interactive job leaves behind when one submits out of it: srun would take it for this job's.
UNSET = "unset ${!SLURM_CPU_BIND*} SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU ${!SLURM_GPU*} SLURM_GRES"


def largest_array() -> int:
    """How many jobs one array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", run_slurm("scontrol", "show", "config"))
    return max(1, int(found[1])) if found else 1


def executor(sweep: Sweep, submission: str, array: Array, cluster: Cluster) -> "SlurmExecutor":
    """submitit's executor with everything that the batch script of `array` says."""
    from submitit import SlurmExecutor

    class Elsewhere(SlurmExecutor):
        """To show the script of a cluster from a machine that has no Slurm."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    code = sweep.code / array.code
    start = ["sh", str(code / "mtlcluster" / "launch" / "start.sh"), python(cluster)]
    kind = Elsewhere if cluster.is_remote else SlurmExecutor
    slurm = kind(sweep.submission_folder(submission), python=shlex.join(start))
    wanted, offered = array.resources, cluster.options
    slurm.update_parameters(
        job_name=sweep.name,
        comment=mark(sweep, submission),
        time=array.minutes,
        signal_delay_s=min(SIGNAL_DELAY, array.minutes * 60 // 4),
        nodes=wanted.nodes,
        ntasks_per_node=1,
        cpus_per_task=array.cpus,
        **_gpus(array, cluster),
        mem=f"{array.megabytes}M",
        partition=wanted.partition or offered.partition,
        account=wanted.account or offered.account,
        qos=wanted.qos or offered.qos,
        constraint=wanted.constraint or offered.constraint,
        array_parallelism=offered.limits.jobs or len(array.jobs),
        mail_user=offered.mail,
        mail_type="END,FAIL" if offered.mail else None,
        stderr_to_stdout=True,
        wckey=None,
        setup=[environment.SHELL, *offered.setup, UNSET, f"export PYTHONPATH={shlex.quote(str(code))}"],
        srun_args=[f"--cpus-per-task={array.cpus}"],
        additional_parameters={"requeue": True, "chdir": str(code)},
    )
    return slurm


def _gpus(array: Array, cluster: Cluster) -> dict[str, str]:
    """The option that asks for the GPUs of a node."""
    if array.gpus == 0:
        return {}
    name = array.resources.gpu_type
    asked = str(array.gpus) if name is None else f"{cluster.options.gpu_types.get(name, name)}:{array.gpus}"
    return {"gres": f"gpu:{asked}"} if cluster.options.gpus_as == "gres" else {"gpus_per_node": asked}


def python(cluster: Cluster) -> str:
    """The interpreter of the cluster's environment, else the one that is running."""
    if cluster.environment is None:
        return sys.executable
    if cluster.is_remote:
        return f"{cluster.environment}/bin/python"
    path = Path(cluster.environment).expanduser() / "bin" / "python"
    if not path.exists():
        raise UserError(f"cluster '{cluster.name}': environment {cluster.options.environment} has no bin/python")
    return str(path)


def script(sweep: Sweep, submission: str, array: Array, cluster: Cluster) -> str:
    """The text that `submit` hands to sbatch for `array`."""
    slurm = executor(sweep, submission, array, cluster)
    if len(array.jobs) > 1:
        slurm.parameters["map_count"] = len(array.jobs)
    text: str = slurm._make_submission_file_text(slurm._submitit_command_str, "")
    return text


def submit(sweep: Sweep, submission: str, array: Array, cluster: Cluster) -> list[str]:
    """Hands `array` to sbatch; returns the ids of its jobs. Raises SchedulerError with sbatch's own words."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    slurm = executor(sweep, submission, array, cluster)
    n = len(array.jobs)
    arguments = [str(sweep.folder)] * n, [submission] * n, range(n), [array.at_once] * n
    try:
        jobs = slurm.map_array(worker.work_in_slurm, *arguments)
    except (FailedJobError, FailedSubmissionError) as error:
        raise SchedulerError(f"sbatch: {str(error).strip().removeprefix('sbatch: ')}") from None
    return [job.job_id for job in jobs]


def mark(sweep: Sweep, submission: str) -> str:
    """What a job carries as its comment, so that the jobs of a killed `submit` are found."""
    return f"mtlcluster {submission} {sweep.folder}"


def cancel_orphans(sweep: Sweep, submission: str) -> list[str]:
    """Cancels what a killed `submit` has left in the queue of its submission; returns the ids."""
    queue = run_slurm("squeue", "--noheader", f"--user={os.getuid()}", "--format=%F|%k")
    found = (line.partition("|") for line in queue.splitlines())
    ours = {job for job, _, comment in found if comment == mark(sweep, submission)}
    scancel(ours)
    return sorted(ours)


def answers() -> bool:
    """Whether this machine has Slurm's commands and a controller answers them."""
    if shutil.which("sbatch") is None:
        return False
    try:
        return "UP" in run_slurm("scontrol", "ping")
    except SchedulerError:
        return False
