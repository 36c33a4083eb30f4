"""Builds the batch script of Slurm jobs. submitit writes its text."""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlcluster import _entry
from mtlcluster.config.cluster import Cluster
from mtlcluster.config.run import Resources
from mtlcluster.errors import UserError
from mtlcluster.launch.executors.slurm_queue import mark
from mtlcluster.launch.packing import Array
from mtlcluster.processes import environment
from mtlcluster.sweep.folder import Sweep

if TYPE_CHECKING:  # a quarter of a second, which only a submission need pay
    from submitit import SlurmExecutor

SIGNAL_DELAY = 90  # seconds before the time limit when runs are told to save; at most a quarter of the limit

# Options that are taken from the environment, as by sbatch itself, if neither grid nor cluster file states them.
# Nothing else is taken from it.
DEFAULTS = {name: f"SBATCH_{name.upper()}" for name in ("account", "partition", "qos", "constraint", "reservation")}

# A line of the cluster's `setup` that fails does not end the job: many fail on some nodes only, and do no harm. It is
# noted in a variable, which the worker reads. Failures inside files that those lines source are not noted.
# (BASH_COMMAND may be a command inside a function, such as `module`.)
WATCH = """trap 'mtlcluster_code=$? mtlcluster_line=$LINENO
if [ "${#BASH_SOURCE[@]}" -le 1 ]; then
    mtlcluster_line=$(sed -n "$mtlcluster_line{s/^ *//;p}" "$0")
    mtlcluster_line="${mtlcluster_line:-$BASH_COMMAND} ended with $mtlcluster_code"
    MTLCLUSTER_SETUP_FAILED="${MTLCLUSTER_SETUP_FAILED:+$MTLCLUSTER_SETUP_FAILED; }$mtlcluster_line"
    export MTLCLUSTER_SETUP_FAILED="${MTLCLUSTER_SETUP_FAILED:0:500}"
fi' ERR
unset MTLCLUSTER_SETUP_FAILED"""
UNWATCH = "trap - ERR"


def script(sweep: Sweep, submission: str, array: Array, cluster: Cluster, dependency: str = "") -> str:
    """The batch script that sbatch gets for `array`.

    Args:
        sweep: The sweep.
        submission: The id of the submission.
        array: The jobs.
        cluster: The options of the cluster.
        dependency: The jobs that must have ended before, as sbatch's --dependency names them; "" for none.

    Raises:
        UserError: Options are wrong.
    """
    slurm = _submitit_executor(cluster)(sweep.submission_folder(submission))
    options = _options(sweep, submission, array, cluster)
    if dependency:
        options["additional_parameters"]["dependency"] = dependency
    slurm.update_parameters(**options)
    if len(array.jobs) > 1:
        slurm.parameters["map_count"] = len(array.jobs)
    output, code = _output(sweep, submission, array), sweep.code / array.code
    srun = ["srun", "--unbuffered", f"--output={output}", f"--cpus-per-task={array.cpus}"]
    python = ["sh", str(_entry.start_script(code)), _python(cluster), "-u"]
    worker = [*_entry.python_arguments("slurm-worker", code), str(sweep.folder), submission, str(array.at_once)]
    text: str = slurm._make_submission_file_text(shlex.join([*srun, *python, *worker]), "")
    return text


def _submitit_executor(cluster: Cluster) -> "type[SlurmExecutor]":
    from submitit import SlurmExecutor

    class WithoutSlurm(SlurmExecutor):
        """Writes the script of a remote cluster on a machine that has no Slurm."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    return WithoutSlurm if cluster.is_remote else SlurmExecutor


def _options(sweep: Sweep, submission: str, array: Array, cluster: Cluster) -> dict[str, Any]:
    """The options of the batch script, as submitit calls them."""
    code, output = sweep.code / array.code, _output(sweep, submission, array)
    wanted, offered, defaults = array.resources, cluster.options, defaults_for(array.resources, cluster)
    additional = {
        "requeue": True,
        "chdir": str(code),
        "export": "ALL",
        "signal": f"USR2@{min(SIGNAL_DELAY, array.minutes * 60 // 4)}",
        "output": output,
        "reservation": defaults.get("reservation"),
    }
    return {
        "job_name": sweep.name,
        "comment": mark(sweep, submission),
        "time": array.minutes,
        "nodes": wanted.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": array.cpus,
        **_gpus(array, cluster),
        "mem": f"{array.megabytes}M",
        "partition": wanted.partition or offered.partition or defaults.get("partition"),
        "account": wanted.account or offered.account or defaults.get("account"),
        "qos": wanted.qos or offered.qos or defaults.get("qos"),
        "constraint": wanted.constraint or offered.constraint or defaults.get("constraint"),
        "array_parallelism": offered.limits.jobs or len(array.jobs),
        "mail_user": offered.mail,
        "mail_type": "END,FAIL" if offered.mail else None,
        "stderr_to_stdout": True,
        "wckey": None,
        "setup": [
            environment.SHELL,
            *([WATCH, *offered.setup, UNWATCH] if offered.setup else []),
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        ],
        "use_srun": False,  # `script` writes it: in submitit's, a % in a path would begin a pattern
        "additional_parameters": {key: value for key, value in additional.items() if value is not None},
    }


def remarks_on_environment(wanted: Iterable[Resources], cluster: Cluster) -> list[str]:
    """Lines about sbatch's variables in the user's environment: which count for these runs, and which do not."""
    used = {name: value for resources in wanted for name, value in defaults_for(resources, cluster).items()}
    options = {name for name in os.environ if name.startswith("SBATCH_") or name == "SLURM_CLUSTERS"}
    unused = sorted(options - {DEFAULTS[name] for name in used})
    lines = [f"from the environment: {in_words(used)}"] if used else []
    return lines + ([f"not taken from the environment: {', '.join(unused)}"] if unused else [])


def defaults_for(wanted: Resources, cluster: Cluster) -> dict[str, str]:
    """The options that the user's environment gives and that neither grid nor cluster file states.

    Empty for a remote cluster, where the environment is another one.
    """
    if cluster.is_remote:
        return {}
    stated = {name for name in DEFAULTS if getattr(wanted, name, None) or getattr(cluster.options, name, None)}
    found = {name: os.environ.get(DEFAULTS[name], "").strip() for name in DEFAULTS.keys() - stated}
    if broken := sorted(DEFAULTS[name] for name, value in found.items() if not value.isprintable()):
        raise UserError(f"{', '.join(broken)}: contains a line break or a control character; unset it")
    return {name: found[name] for name in DEFAULTS if found.get(name)}


def in_words(defaults: dict[str, str]) -> str:
    """Writes options as `SBATCH_ACCOUNT=lab, SBATCH_QOS=long`."""
    return ", ".join(f"{DEFAULTS[name]}={value}" for name, value in defaults.items())


def _output(sweep: Sweep, submission: str, array: Array) -> str:
    """The file for a job's output, as a pattern into which Slurm puts the job's id."""
    folder = str(sweep.submission_folder(submission)).replace("%", "%%")
    return f"{folder}/{'%A_%a' if len(array.jobs) > 1 else '%j'}_0_log.out"


def _gpus(array: Array, cluster: Cluster) -> dict[str, str]:
    """The option that asks for the GPUs of a node."""
    if array.gpus == 0:
        return {}
    name = array.resources.gpu_type
    asked = str(array.gpus) if name is None else f"{cluster.options.gpu_types.get(name, name)}:{array.gpus}"
    return {"gres": f"gpu:{asked}"} if cluster.options.gpus_as == "gres" else {"gpus_per_node": asked}


def _python(cluster: Cluster) -> str:
    """The interpreter of the cluster's environment; without one, that of this process."""
    if cluster.environment is None:
        return sys.executable
    if cluster.is_remote:
        return f"{cluster.environment}/bin/python"
    path = Path(cluster.environment).expanduser() / "bin" / "python"
    if not path.exists():
        raise UserError(f"cluster '{cluster.name}': environment {cluster.options.environment} has no bin/python")
    return str(path)
