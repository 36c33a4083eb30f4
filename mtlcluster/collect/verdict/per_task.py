"""The comparison of the methods on every task by itself, at the level 0.05/T."""

from dataclasses import dataclass

import numpy as np

from mtlcluster.collect.inference.compare import Comparison, compare_tasks
from mtlcluster.collect.inference.model import Array
from mtlcluster.collect.verdict.comparable import Table
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.scores import Scale


@dataclass(frozen=True)
class PerTask:
    """The comparisons of all tasks.

    Attributes:
        methods: The names of the compared methods.
        reference: The one that the others are compared with.
        seeds: The number of seeds.
        tasks: By task what can be said of these methods.
    """

    methods: list[str]
    reference: str
    seeds: int
    tasks: dict[str, Comparison]


def per_task(contest: Contest) -> PerTask | None:
    """Compares the methods on every task. None with one task, one seed, one method, or without a reference."""
    table, scale = contest.table, contest.scales[contest.data]
    reference = next((i for i, row in enumerate(table.rows) if row is contest.reference), None)
    if scale is None or reference is None or len(contest.leading) < 2 or min(table.z.shape) < 2:
        return None
    values = _task_values(table, scale, list(contest.leading))
    compared = compare_tasks(values, reference, contest.report.keys.delta)
    names = [row.name for row in table.rows]
    return PerTask(names, names[reference], len(table.seeds), dict(zip(contest.leading, compared, strict=True)))


def _task_values(table: Table, scale: Scale, tasks: list[str]) -> list[Array]:
    """The task values of each task [T] of [M, S]. The worst one of its seed stands for a run that failed."""
    found = np.full((len(tasks), *table.z.shape), np.nan)
    for m, row in enumerate(table.rows):
        for s, seed in enumerate(table.seeds):
            if seed not in table.put_in[m]:
                by_task = scale.task_values(row.runs[seed].values)
                found[:, m, s] = [by_task[task] for task in tasks]
    worst = np.nanmin(found, axis=1, keepdims=True)
    return list(np.where(np.isnan(found), worst, found))
