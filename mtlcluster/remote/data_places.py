"""Paths of a grid's data on a cluster. The cluster file may give other paths than the grid has."""

import dataclasses

from mtlcluster.config.cluster import Cluster
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.job_file import JobFile
from mtlcluster.config.run import PLACED, is_path


def adapt(grid: Grid, cluster: Cluster) -> dict[str, PlannedRun]:
    """The runs by their hash, with the places of the data on this cluster.

    Raises UserError with file and line.
    """
    places = cluster.options.data.get(_job_name(grid.job), {})
    if cluster.file and (mistake := grid.job.check("data", places)):
        cluster.file.refuse((cluster.name, "data", _job_name(grid.job), mistake[0]), mistake[1])
    for key in places:
        if cluster.file and len({repr(run.config.data.get(key)) for run in grid.runs}) > 1:
            words = f"data.{key} is what the grid varies; one place for it would make its runs the same"
            cluster.file.refuse((cluster.name, "data", _job_name(grid.job), key), words)
    adapted = {}
    for run in grid.runs:
        data = {**run.config.data, **places}
        adapted[run.hash] = dataclasses.replace(run, config=run.config.model_copy(update={"data": data}))
    return adapted


def paths_of(planned: dict[str, PlannedRun]) -> dict[str, str]:
    """The paths in the options of data and model, each with its option, such as data.features."""
    found: dict[str, str] = {}
    for run in planned.values():
        for section in PLACED:
            for key, value in getattr(run.config, section).items():
                for inner in value if isinstance(value, list) else [value]:
                    if is_path(inner):
                        found.setdefault(inner, f"{section}.{key}")
    return found


def _job_name(job: JobFile) -> str:
    """`digits` of jobs/digits.py, `comic_mischief` of jobs/comic_mischief/__init__.py."""
    return job.file.parent.name if job.file.stem == "__init__" else job.file.stem
