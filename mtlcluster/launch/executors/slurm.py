"""Slurm as an executor: arrays of jobs, submitted by sbatch."""

import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlcluster.config.cluster_files import SLURM
from mtlcluster.errors import SchedulerError
from mtlcluster.launch.executors import slurm_queue
from mtlcluster.launch.executors.base import Executor, JobState, Traces, Unsettled
from mtlcluster.processes.slurm_commands import run_slurm
from mtlcluster.progress import Say
from mtlcluster.sweep.folder import Sweep

if TYPE_CHECKING:
    from mtlcluster.config.cluster import Cluster
    from mtlcluster.launch.packing import Array, Packing, Unit

AWAY = "Slurm does not answer here (is sbatch installed, and is its controller running?)"
SBATCH_TIMEOUT = 120.0  # seconds; a busy controller takes long, and after a timeout it is not known what sbatch did
SETTLE = "submit again: if the job exists, it is cancelled first"


class Slurm(Executor):
    """Slurm on this machine, or (for scripts only) on a remote cluster."""

    name = SLURM
    has_queue = True

    def why_away(self) -> str:
        return "" if answers() else AWAY

    def limits(self, sweep: Sweep, array: "Array", cluster: "Cluster") -> str:
        from mtlcluster.launch.executors.slurm_limits import ruled_out

        return ("" if cluster.is_remote else _unfit_folder(sweep)) or ruled_out(array, cluster)

    def arrays(self, units: "Sequence[Unit]", packing: "Packing", cluster: "Cluster") -> "list[Array]":
        from mtlcluster.launch.packing import pack

        # Only the remote cluster itself knows how large an array may be there.
        largest = len(units) if cluster.is_remote else largest_array() if len(units) > 1 else 1
        return pack(units, packing, largest)

    def script(self, sweep: Sweep, submission: str, array: "Array", cluster: "Cluster") -> str:
        from mtlcluster.launch.executors import slurm_script

        head = f"--- sbatch script {int(submission)}, for {len(array.jobs)} job{'s' * (len(array.jobs) != 1)} ---"
        after = "afterany:THE_JOBS_OF_ITS_TRIALS" if array.after else ""
        return f"{head}\n{slurm_script.script(sweep, submission, array, cluster, after)}"

    def remarks(self, units: "Sequence[Unit]", cluster: "Cluster") -> list[str]:
        from mtlcluster.launch.executors import slurm_script

        return slurm_script.remarks_on_environment({unit.resources for unit in units}, cluster)

    def submit(self, sweep: Sweep, submission: str, array: "Array", cluster: "Cluster", say: Say) -> list[str]:
        from mtlcluster.launch.executors import slurm_script

        path = sweep.submission_folder(submission) / "batch.sh"
        after = slurm_queue.dependency(sweep, array.after)
        path.write_text(slurm_script.script(sweep, submission, array, cluster, after), "utf-8")
        try:
            job = _sbatch(path, slurm_queue.mark(sweep, submission), say)
        except Unsettled:
            raise
        except SchedulerError as error:
            added = slurm_script.in_words(slurm_script.defaults_for(array.resources, cluster))
            raise SchedulerError(f"{error}; from the environment: {added}" if added else str(error)) from None
        return [f"{job}_{i}" for i in range(len(array.jobs))] if len(array.jobs) > 1 else [job]

    def cancel_orphans(self, sweep: Sweep, submission: str) -> list[str]:
        orphans = slurm_queue.with_comment(slurm_queue.mark(sweep, submission))
        slurm_queue.scancel(orphans)
        return sorted(orphans)

    def states(self, jobs: Mapping[str, Traces], owners: Collection[int]) -> dict[str, JobState]:
        return slurm_queue.states(jobs, owners)

    def cancel(self, job_ids: Iterable[str]) -> None:
        slurm_queue.scancel(job_ids)


def installed() -> bool:
    """True if this machine has Slurm's commands."""
    return shutil.which("sbatch") is not None


def answers() -> bool:
    """True if this machine has Slurm's commands, and a controller answers them."""
    if not installed():
        return False
    try:
        return "UP" in run_slurm("scontrol", "ping")
    except SchedulerError:
        return False


def largest_array() -> int:
    """The largest number of jobs that one array may have. Raises SchedulerError."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", run_slurm("scontrol", "show", "config"))
    return max(1, int(found[1])) if found else 1


def _unfit_folder(sweep: Sweep) -> str:
    """Why a batch script can't name the sweep's folder: a backslash keeps Slurm from putting job ids into patterns."""
    folder = str(sweep.folder)
    if "\\" in folder or not folder.isprintable():
        return f"{folder!r}: Slurm can't write into a folder with a backslash or a line break in its path"
    return ""


def _sbatch(path: Path, comment: str, say: Say) -> str:
    """Submits the batch script `path` and returns the job's id.

    If sbatch does not print exactly one id, the queue is asked for the job with this comment: a site's own sbatch may
    print anything, and with a busy controller sbatch says "timed out" although the job was submitted.
    """
    refusal = None
    try:
        said = run_slurm("sbatch", "--parsable", str(path), timeout=SBATCH_TIMEOUT)
    except SchedulerError as error:
        refusal, said = error, str(error)
    ids = set() if refusal else job_ids(said)
    if ids and len(said.splitlines()) == 1:
        return ids.pop()
    unclear = refusal or f"sbatch printed {_quoted(said)}"
    try:
        found = slurm_queue.with_comment(comment, "--states=all")
    except SchedulerError as error:
        if len(ids) == 1:
            return ids.pop()
        raise Unsettled(f"{unclear}; {error}; {SETTLE}") from None
    if len(found) > 1:
        slurm_queue.scancel(found)
        raise SchedulerError(f"sbatch made several jobs of one; they were cancelled: {', '.join(sorted(found))}")
    if found and found != ids:
        say(f"{unclear}; its job was found in the queue: {', '.join(found)}")
    if len(found := found or ids) == 1:  # not in the queue if the site changes comments
        return found.pop()
    raise refusal or Unsettled(f"{unclear}, which names no job, and none is in the queue; {SETTLE}")


def _quoted(said: str) -> str:
    words = " ".join(said.split())
    return repr(words if len(words) <= 200 else f"{words[:200]}…") if words else "nothing"


def job_ids(said: str) -> set[str]:
    """The ids in what sbatch printed: lines such as `7`, `7;cluster` or `Submitted batch job 7 on cluster c`."""
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip() for line in said.splitlines()]
    found = (re.fullmatch(r"(?:.*\b[Ss]ubmitted batch job )?(\d+)(?:;\S+| on cluster \S+)?", line) for line in lines)
    return {match[1] for match in found if match}
