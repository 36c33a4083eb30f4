"""Which runs share a job, and which jobs share an array."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mtlcluster.config.run import Resources
from mtlcluster.config.units import memory_bytes, seconds


def minutes(time: str, times: int = 1) -> int:
    """As Slurm is asked: whole, rounded up."""
    return math.ceil(seconds(time) * times / 60)


def megabytes(memory: str, times: int = 1) -> int:
    """As Slurm is asked: whole, rounded up."""
    return math.ceil(memory_bytes(memory) * times / 2**20)


@dataclass(frozen=True)
class Unit:
    """A run that is to be submitted, and what decides which others it may share an array with."""

    name: str
    resources: Resources
    code: str


@dataclass(frozen=True)
class Array:
    """Jobs that one call of the scheduler submits: the runs of each, and what each asks for."""

    code: str
    resources: Resources  # of one run
    at_once: int
    jobs: list[list[str]]

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
        """How many runs a job trains one after another."""
        return math.ceil(max(map(len, self.jobs)) / self.at_once)

    @property
    def minutes(self) -> int:
        return minutes(self.resources.time, self.rounds)


def pack(units: Iterable[Unit], runs_per_job: int, at_once: int, largest_array: int) -> list[Array]:
    """Fills jobs with runs of the same code and resources, in their order, and arrays with such jobs."""
    alike: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        alike.setdefault((unit.code, unit.resources.model_dump_json()), []).append(unit)
    arrays = []
    for group in alike.values():
        names = [unit.name for unit in group]
        jobs = [names[i : i + runs_per_job] for i in range(0, len(names), runs_per_job)]
        for i in range(0, len(jobs), largest_array):
            chunk = jobs[i : i + largest_array]
            arrays.append(Array(group[0].code, group[0].resources, min(at_once, len(chunk[0])), chunk))
    return arrays
