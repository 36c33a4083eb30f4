"""The values that are compared: methods by seeds, without gaps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mtlcluster.collect.inference.model import Array
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.collect.verdict.scores import Scale


@dataclass(frozen=True)
class Table:
    """The values that are compared.

    Attributes:
        rows: The compared rows [M].
        seeds: The seeds that all of them have [S].
        z: Their values [M, S].
        put_in: By row the seeds for which the worst z of that seed stands, since the run failed.
    """

    rows: list[Row]
    seeds: list[int]
    z: Array
    put_in: list[list[int]]


def comparable(rows: Iterable[Row], scale: Scale | None) -> Table:
    """The methods whose runs have all ended, with the seeds that all of them have.

    A run that failed counts with the worst z of any finished run with its seed. A run without a finite value counts as
    failed.

    Args:
        rows: All rows.
        scale: What their values are relative to; None where that is not known.
    """
    if scale is None:
        return Table([], [], np.zeros((0, 0)), [])
    by_row = [(row, z_by_seed(scale, row)) for row in rows if not row.single and not row.missing]
    by_row = [(row, found) for row, found in by_row if found]
    worst: dict[int, float] = {}
    for _, found in by_row:
        for seed, number in found.items():
            worst[seed] = min(number, worst.get(seed, number))
    failed = [({*row.failed} | {*row.runs}) - {*found} for row, found in by_row]
    shared = [{*found} | lost for (_, found), lost in zip(by_row, failed, strict=True)]
    seeds = sorted(set.intersection(*shared) & {*worst}) if shared else []
    z = np.array([[found.get(seed, worst[seed]) for seed in seeds] for _, found in by_row])
    return Table([row for row, _ in by_row], seeds, z, [sorted(lost & {*seeds}) for lost in failed])


def z_by_seed(scale: Scale, row: Row) -> dict[int, float]:
    """z of each finished run of a row that has one, by seed."""
    found = {seed: scale.z(run.values) for seed, run in sorted(row.runs.items())}
    return {seed: z for seed, z in found.items() if math.isfinite(z)}
