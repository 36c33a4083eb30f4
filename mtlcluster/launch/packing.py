"""Packs runs into jobs, and jobs into arrays."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mtlcluster.config.grid import Grid
from mtlcluster.config.run import Resources
from mtlcluster.config.units import memory_bytes, seconds


def minutes(time: str, times: int = 1) -> int:
    """Whole minutes, rounded up, as Slurm is asked for them."""
    return math.ceil(seconds(time) * times / 60)


def megabytes(memory: str, times: int = 1) -> int:
    """Whole megabytes, rounded up, as Slurm is asked for them."""
    return math.ceil(memory_bytes(memory) * times / 2**20)


class Packing(NamedTuple):
    """The numbers by which runs share jobs.

    Attributes:
        runs_per_job: The number of runs that one job trains. The last job may have fewer.
        at_once: The number of them that it trains at the same time.
    """

    runs_per_job: int
    at_once: int


@dataclass(frozen=True)
class Unit:
    """A run to submit, and what it must have in common with the other runs of its array.

    Attributes:
        name: The run's name.
        resources: The resources that it needs.
        code: The hash of its code.
        after: The runs that must have ended before its job starts.
    """

    name: str
    resources: Resources
    code: str
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Array:
    """Jobs that are submitted together.

    Attributes:
        code: The hash of their code, as in code/<hash>/.
        resources: The resources that one run needs.
        at_once: The number of runs that a job trains at the same time.
        jobs: The names of the runs of each job.
        after: The runs that must have ended before a job starts.
    """

    code: str
    resources: Resources
    at_once: int
    jobs: list[list[str]]
    after: tuple[str, ...] = ()

    @property
    def cpus(self) -> int:
        return self.at_once * self.resources.cpus

    @property
    def gpus(self) -> int:
        return self.at_once * self.resources.gpu_count

    @property
    def megabytes(self) -> int:
        return megabytes(self.resources.memory, self.at_once)

    @property
    def rounds(self) -> int:
        """The number of rounds: so many runs a job trains one after another."""
        return math.ceil(max(map(len, self.jobs)) / self.at_once)

    @property
    def minutes(self) -> int:
        return minutes(self.resources.time, self.rounds)


def pack(units: Iterable[Unit], packing: Packing, largest_array: int) -> list[Array]:
    """Fills jobs with runs of the same code and resources, in their order, and arrays with such jobs.

    Arrays that wait for other runs come last: the jobs of those runs are submitted before.
    """
    runs_per_job, at_once = packing
    alike: dict[tuple[str, str, tuple[str, ...]], list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: bool(unit.after)):
        alike.setdefault((unit.code, unit.resources.model_dump_json(), unit.after), []).append(unit)
    arrays = []
    for group in alike.values():
        names = [unit.name for unit in group]
        jobs = [names[i : i + runs_per_job] for i in range(0, len(names), runs_per_job)]
        for i in range(0, len(jobs), largest_array):
            chunk = jobs[i : i + largest_array]
            at_most = min(at_once, len(chunk[0]))
            arrays.append(Array(group[0].code, group[0].resources, at_most, chunk, group[0].after))
    return arrays


def packing_of(grid: Grid) -> Packing:
    """The packing that a grid asks for."""
    return Packing(grid.file.runs_per_job, grid.file.at_once)
