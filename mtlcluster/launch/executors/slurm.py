"""Slurm as an executor: batch scripts, which submitit words, arrays, and the jobs of a `submit` that was killed."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlcluster import _entry
from mtlcluster.config.cluster import Cluster
from mtlcluster.config.run import Resources
from mtlcluster.errors import SchedulerError, UserError
from mtlcluster.launch.executors.job_state import MARK, scancel
from mtlcluster.launch.packing import Array
from mtlcluster.processes import environment
from mtlcluster.processes.slurm_commands import run_slurm
from mtlcluster.sweep.folder import Sweep

if TYPE_CHECKING:  # a quarter of a second, which only a submission need pay
    from submitit import SlurmExecutor

SIGNAL_DELAY = 90  # seconds before the time limit at which runs are told to save; a quarter of a short limit
SBATCH_PATIENCE = 120.0  # seconds; a busy controller takes its time, and who stops waiting does not know what it did

# What sbatch takes from the environment where neither grid nor cluster file says anything. Nothing else is taken.
DEFAULTS = {name: f"SBATCH_{name.upper()}" for name in ("account", "partition", "qos", "constraint", "reservation")}

# A line of the cluster's that fails ends no job: many fail on some nodes only, and do no harm. The worker hears of it.
# Not of what fails inside files that those lines read. (BASH_COMMAND may be one inside a function, as `module` is.)
WATCH = """trap 'mtlcluster_code=$? mtlcluster_line=$LINENO
if [ "${#BASH_SOURCE[@]}" -le 1 ]; then
    mtlcluster_line=$(sed -n "$mtlcluster_line{s/^ *//;p}" "$0")
    mtlcluster_line="${mtlcluster_line:-$BASH_COMMAND} ended with $mtlcluster_code"
    MTLCLUSTER_SETUP_FAILED="${MTLCLUSTER_SETUP_FAILED:+$MTLCLUSTER_SETUP_FAILED; }$mtlcluster_line"
    export MTLCLUSTER_SETUP_FAILED="${MTLCLUSTER_SETUP_FAILED:0:500}"
fi' ERR
unset MTLCLUSTER_SETUP_FAILED"""
UNWATCH = "trap - ERR"

SETTLE = "submit again: what there may be of it is cancelled first"


class Unsettled(SchedulerError):
    """Whether sbatch has submitted a job is not known: the submission stays open, and the next `submit` settles it."""


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
    kind = Elsewhere if cluster.is_remote else SlurmExecutor
    slurm = kind(sweep.submission_folder(submission))
    wanted, offered, defaults = array.resources, cluster.options, defaults_for(array.resources, cluster)
    additional: dict[str, Any] = {
        "requeue": True,
        "chdir": str(code),
        "export": "ALL",
        "signal": f"USR2@{min(SIGNAL_DELAY, array.minutes * 60 // 4)}",
        "output": output(sweep, submission, array),
        "reservation": defaults.get("reservation"),
    }
    slurm.update_parameters(
        job_name=sweep.name,
        comment=mark(sweep, submission),
        time=array.minutes,
        nodes=wanted.nodes,
        ntasks_per_node=1,
        cpus_per_task=array.cpus,
        **_gpus(array, cluster),
        mem=f"{array.megabytes}M",
        partition=wanted.partition or offered.partition or defaults.get("partition"),
        account=wanted.account or offered.account or defaults.get("account"),
        qos=wanted.qos or offered.qos or defaults.get("qos"),
        constraint=wanted.constraint or offered.constraint or defaults.get("constraint"),
        array_parallelism=offered.limits.jobs or len(array.jobs),
        mail_user=offered.mail,
        mail_type="END,FAIL" if offered.mail else None,
        stderr_to_stdout=True,
        wckey=None,
        setup=[
            environment.SHELL,
            *([WATCH, *offered.setup, UNWATCH] if offered.setup else []),
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        ],
        use_srun=False,  # but see `script`: submitit's takes a % in a path for the beginning of a pattern
        additional_parameters={key: value for key, value in additional.items() if value is not None},
    )
    return slurm


def defaults_for(wanted: Resources, cluster: Cluster) -> dict[str, str]:
    """What the user's environment says where grid and cluster file leave it open. Over there it is another one."""
    if cluster.is_remote:
        return {}
    stated = {name for name in DEFAULTS if getattr(wanted, name, None) or getattr(cluster.options, name, None)}
    found = {name: os.environ.get(DEFAULTS[name], "").strip() for name in DEFAULTS.keys() - stated}
    if broken := sorted(DEFAULTS[name] for name, value in found.items() if not value.isprintable()):
        raise UserError(f"{', '.join(broken)}: holds a line break or another character that is no text; unset it")
    return {name: found[name] for name in DEFAULTS if found.get(name)}


def in_words(defaults: dict[str, str]) -> str:
    """'SBATCH_ACCOUNT=lab, SBATCH_QOS=long'."""
    return ", ".join(f"{DEFAULTS[name]}={value}" for name, value in defaults.items())


def output(sweep: Sweep, submission: str, array: Array) -> str:
    """Where a job's output goes, as a pattern in which Slurm puts the job's id."""
    folder = str(sweep.submission_folder(submission)).replace("%", "%%")
    return f"{folder}/{'%A_%a' if len(array.jobs) > 1 else '%j'}_0_log.out"


def refuse_folder(sweep: Sweep) -> None:
    """Raises UserError for a folder that a batch script can't name: in a pattern with a backslash Slurm puts no ids."""
    if "\\" in str(sweep.folder) or not str(sweep.folder).isprintable():
        found = repr(str(sweep.folder))
        raise UserError(f"{found}: Slurm can't write into a folder with a backslash or a line break in its path")


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
    srun = ["srun", "--unbuffered", f"--output={output(sweep, submission, array)}", f"--cpus-per-task={array.cpus}"]
    code = sweep.code / array.code
    python_itself = ["sh", str(_entry.start_script(code)), python(cluster), "-u"]
    worker = [*_entry.python_arguments("slurm-worker", code), str(sweep.folder), submission, str(array.at_once)]
    command = [*srun, *python_itself, *worker]
    text: str = slurm._make_submission_file_text(shlex.join(command), "")
    return text


def submit(sweep: Sweep, submission: str, array: Array, cluster: Cluster, note: Callable[[str], object]) -> list[str]:
    """Hands `array` to sbatch; returns the ids of its jobs. note: is told what is odd about that. Raises SchedulerError
    with sbatch's own words, and Unsettled where it can't be known what became of it.
    """
    path = sweep.submission_folder(submission) / "batch.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(sweep, submission, array, cluster), "utf-8")
    try:
        job = _sbatch(path, mark(sweep, submission), note)
    except Unsettled:
        raise
    except SchedulerError as error:
        added = in_words(defaults_for(array.resources, cluster))
        raise SchedulerError(f"{error}; from the environment: {added}" if added else str(error)) from None
    return [f"{job}_{i}" for i in range(len(array.jobs))] if len(array.jobs) > 1 else [job]


def _sbatch(path: Path, comment: str, note: Callable[[str], object]) -> str:
    """The id of the job that sbatch makes of the script. Where it says more or less than that the queue is asked: a
    site's own sbatch may print anything, and of a busy controller sbatch says "timed out" when the job is there.
    """
    refusal = None
    try:
        said = run_slurm("sbatch", "--parsable", str(path), timeout=SBATCH_PATIENCE)
    except SchedulerError as error:
        refusal, said = error, str(error)
    ids = set() if refusal else job_ids(said)
    if ids and len(said.splitlines()) == 1:
        return ids.pop()
    unclear = refusal or f"sbatch has said {_quoted(said)}"
    try:
        found = _in_queue(comment, "--states=all")
    except SchedulerError as error:
        if len(ids) == 1:
            return ids.pop()
        raise Unsettled(f"{unclear}; {error}; {SETTLE}") from None
    if len(found) > 1:
        scancel(found)
        raise SchedulerError(f"sbatch has made several jobs of one, which were cancelled: {', '.join(sorted(found))}")
    if found and found != ids:
        note(f"{unclear}; its job was found in the queue: {', '.join(found)}")
    if len(found := found or ids) == 1:  # a site may word comments anew
        return found.pop()
    raise refusal or Unsettled(f"{unclear}, which names no job, and none is in the queue; {SETTLE}")


def _quoted(said: str) -> str:
    words = " ".join(said.split())
    return repr(words if len(words) <= 200 else f"{words[:200]}…") if words else "nothing"


def job_ids(said: str) -> set[str]:
    """The ids in what sbatch has printed: `7`, `7;cluster` or `Submitted batch job 7 on cluster c`, each in a line."""
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip() for line in said.splitlines()]
    found = (re.fullmatch(r"(?:.*\b[Ss]ubmitted batch job )?(\d+)(?:;\S+| on cluster \S+)?", line) for line in lines)
    return {match[1] for match in found if match}


def mark(sweep: Sweep, submission: str) -> str:
    """What a job carries as its comment, so that the jobs of a killed `submit` are found."""
    return f"{MARK}{submission} {sweep.folder}"


def cancel_orphans(sweep: Sweep, submission: str) -> list[str]:
    """Cancels what a killed `submit` has left in the queue of its submission; returns the ids."""
    ours = _in_queue(mark(sweep, submission))
    scancel(ours)
    return sorted(ours)


def _in_queue(comment: str, *which: str) -> set[str]:
    """The jobs, arrays as one, that carry `comment`. Raises SchedulerError."""
    queue = run_slurm("squeue", "--noheader", f"--user={os.getuid()}", *which, "--format=%F|%k")
    found = (line.partition("|") for line in queue.splitlines())
    return {job for job, _, said in found if said == comment}


def installed() -> bool:
    """Whether this machine has Slurm's commands."""
    return shutil.which("sbatch") is not None


def answers() -> bool:
    """Whether this machine has Slurm's commands and a controller answers them."""
    if not installed():
        return False
    try:
        return "UP" in run_slurm("scontrol", "ping")
    except SchedulerError:
        return False
