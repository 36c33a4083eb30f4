"""What a cluster file rules out, found before anything is written or submitted."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mtlcluster.config.cluster import Cluster, Limits
from mtlcluster.config.run import Resources
from mtlcluster.errors import UserError, nearest
from mtlcluster.launch.packing import Array, Unit, megabytes, minutes, pack


def refuse_ruled_out(
    cluster: Cluster, wanted: Iterable[Resources], runs_per_job: int, at_once: int, asked_in: Path
) -> None:
    """Raises UserError where jobs of runs that want these resources can't be had of the cluster.

    Of fewer of these runs a job asks for no more: it holds as well if only some turn out to need one.
    """
    units = [Unit("", resources, "") for resources in wanted]
    for array in pack(units, runs_per_job, at_once, largest_array=len(units)):
        name, types = array.resources.gpu_type, cluster.options.gpu_types
        if name is not None and types and name not in types:
            raise UserError(f"{asked_in}: cluster '{cluster.name}' has no GPUs of type '{name}'{nearest(name, types)}")
        if found := "; ".join(_excesses(array, cluster.options.limits)):
            raise UserError(f"{asked_in}: a job would ask for more than cluster '{cluster.name}' allows: {found}")


def _excesses(array: Array, limits: Limits) -> Iterator[str]:
    """About each limit that a job of `array` exceeds: what it would ask for and what to change."""
    run, at_once = array.resources, array.at_once
    # What one run takes, how often a job asks for that, what it comes to, and the limit in the same unit.
    rows: list[tuple[str, object, int, int, int | None]] = [
        ("time", run.time, array.rounds, array.minutes, minutes(limits.time) if limits.time else None),
        ("cpus", run.cpus, at_once, array.cpus, limits.cpus),
        ("gpus", run.gpu_count, at_once, array.gpus, limits.gpus),
        ("memory", run.memory, at_once, array.megabytes, megabytes(limits.memory) if limits.memory else None),
    ]
    for key, one, times, total, most in rows:
        if most is not None and total > most:
            asked = f"{times} × {one}" if times > 1 else one
            packing = " or runs_per_job, or raise at_once" if key == "time" else " or at_once"
            change = f"lower resources.{key}{packing if times > 1 else ''}"
            yield f"{key} {asked}, limits.{key} is {getattr(limits, key)} ({change})"
