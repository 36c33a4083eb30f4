"""Refuses jobs that the cluster file rules out: unknown GPU types, and jobs beyond its `limits`."""

from collections.abc import Iterator

from mtlcluster.config.cluster import Cluster, Limits
from mtlcluster.errors import nearest
from mtlcluster.launch.packing import Array, megabytes, minutes


def ruled_out(array: Array, cluster: Cluster) -> str:
    """Returns why the cluster can't ever give the jobs of `array`; "" if it can."""
    name, types = array.resources.gpu_type, cluster.options.gpu_types
    if name is not None and types and name not in types:
        return f"cluster '{cluster.name}' has no GPUs of type '{name}'{nearest(name, types)}"
    if found := "; ".join(_excesses(array, cluster.options.limits)):
        return f"a job would ask for more than cluster '{cluster.name}' allows: {found}"
    return ""


def _excesses(array: Array, limits: Limits) -> Iterator[str]:
    """Yields a sentence for each limit that a job of `array` exceeds: the request, and the key to change."""
    run, at_once = array.resources, array.at_once
    # The key; the request of one run; how many of these a job needs; their total; the limit in the same unit.
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
