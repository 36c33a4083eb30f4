"""Means over seeds, how far the seeds lie apart, and what a comparison of methods is summed up in.

Tables show the standard deviation over seeds (n - 1 in the denominator), with n; one seed has none. Figures show the
range from the lowest to the highest seed: with the two to five seeds that are usual here a t-interval is wider than
the figure (12.7 standard errors at n = 2) and a standard deviation hardly known, while the range is what was seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlcluster.collect.gather import Array, Curve

BINS = 60  # of a figure's horizontal axis, at most


@dataclass(frozen=True)
class Spread:
    """n: how many seeds have a finite value. mean and std are of these; std is NaN where there is but one.

    other: where there is none, but values that are not finite: one of them.
    """

    mean: float
    std: float
    n: int
    other: float | None = None


@dataclass(frozen=True)
class Band:
    """Some seeds of one setting together, all arrays [K].

    x: places on the horizontal axis; mean, low, high: over the seeds; whole: whether every seed still goes on there.
    """

    x: Array
    mean: Array
    low: Array
    high: Array
    whole: NDArray[np.bool_]
    n: int


def spread(numbers: Sequence[float]) -> Spread:
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return Spread(math.nan, math.nan, 0, next(iter(numbers), None))
    std = float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
    return Spread(float(np.mean(finite)), std, len(finite))


def band(curves: Sequence[Curve], end: float) -> Band:
    """Puts the curves on one axis from 0 to `end`, in at most BINS bins, and goes over the seeds bin by bin.

    Beyond the end of the shortest curve (early stopping) it goes on as long as at least half of the seeds do.
    """
    bins = max(1, min([BINS, *(math.ceil(len(c.x) * end / max(c.x[-1], 1.0) - 1e-9) for c in curves)]))
    binned = np.array([_binned(curve, bins, end) for curve in curves])
    present = ~np.isnan(binned)
    alive = np.array([np.arange(bins) <= np.flatnonzero(row)[-1] for row in present]).sum(axis=0)
    places = _binned_mean(np.concatenate([c.x for c in curves]), np.concatenate([c.x for c in curves]), bins, end)
    kept = present.any(axis=0) & (2 * alive >= len(curves))
    some = binned[:, kept]
    return Band(
        places[kept],
        np.nanmean(some, axis=0),
        np.nanmin(some, axis=0),
        np.nanmax(some, axis=0),
        alive[kept] == len(curves),
        len(curves),
    )


def _binned(curve: Curve, bins: int, end: float) -> Array:
    present = ~np.isnan(curve.y)
    return _binned_mean(curve.x[present], curve.y[present], bins, end)


def _binned_mean(x: Array, y: Array, bins: int, end: float) -> Array:
    index = np.clip(np.ceil(x * bins / end - 1e-9).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, weights=y, minlength=bins)
    means: Array = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
    return means


def delta_m(values: Sequence[float], baseline: Sequence[float], directions: Sequence[str]) -> float:
    """The mean relative loss against the single-task baselines in per cent; negative is better than they are.

    Δm% = 100/K · Σ (−1)^[higher is better] (M − M_single) / |M_single| over the K metrics (Maninis et al., CVPR 2019).
    """
    signs = [-1.0 if direction == "max" else 1.0 for direction in directions]
    return 100 * float(np.mean([s * (m - b) / abs(b) for s, m, b in zip(signs, values, baseline, strict=True)]))


def mean_ranks(means: Sequence[Sequence[float]], directions: Sequence[str]) -> list[float]:
    """For each row of means (one number per metric) its rank among the rows, 1 being best, averaged over the metrics.

    Equal values share the mean of their ranks.
    """
    table = np.array(means) * [-1.0 if direction == "max" else 1.0 for direction in directions]
    better = (table[None] < table[:, None]).sum(axis=1)
    equal = (table[None] == table[:, None]).sum(axis=1)
    return [float(rank) for rank in (better + (equal + 1) / 2).mean(axis=1)]


def leaders(cells: Sequence[Spread], direction: str) -> set[int]:
    """Which cells of a column are best: the best mean and those within two standard errors of the difference from it.

    None where the best has one seed only, since nothing is known then of how much of its lead is noise.
    """
    sign = -1.0 if direction == "max" else 1.0
    known = [i for i, cell in enumerate(cells) if cell.n]
    if not direction or len(known) < 2:
        return set()
    best = min(known, key=lambda i: sign * cells[i].mean)
    if cells[best].n < 2:
        return set()
    return {best} | {i for i in known if cells[i].n > 1 and _within_noise(cells[i], cells[best])}


def _within_noise(cell: Spread, best: Spread) -> bool:
    return abs(cell.mean - best.mean) <= 2 * math.sqrt(cell.std**2 / cell.n + best.std**2 / best.n)
