"""Statistics over seeds, and the numbers that sum up a comparison of methods.

Tables show the standard deviation over seeds (n - 1 in the denominator) and n; one seed has no standard deviation.
Figures show the range from the lowest to the highest seed. The reason: two to five seeds are usual. With so few, a
t-interval is wider than the figure (12.7 standard errors at n = 2), and the estimate of a standard deviation is poor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlcluster.collect.read_histories import Array, Curve

BINS = 60  # of a figure's horizontal axis, at most


@dataclass(frozen=True)
class Spread:
    """The spread of a value over seeds.

    Attributes:
        mean: The mean of the finite values; NaN if there are none.
        std: Standard deviation of the finite values; NaN where there are fewer than two.
        n: The number of seeds with a finite value.
        other: One of the values where none is finite, else None.
    """

    mean: float
    std: float
    n: int
    other: float | None = None


@dataclass(frozen=True)
class Band:
    """The curves of several seeds of one setting together. All arrays are [K].

    Attributes:
        x: Places on the horizontal axis.
        mean, low, high: Over the seeds.
        whole: True if every seed still goes on at that place.
        n: The number of seeds.
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
    """Divides the axis from 0 to `end` into at most BINS bins, and takes mean, lowest and highest of the seeds in each.

    Where seeds end early (early stopping), the band goes on as long as at least half of the seeds do.
    """
    bins = max(1, min([BINS, *(math.ceil(len(c.x) * end / max(c.x[-1], 1.0) - 1e-9) for c in curves)]))
    binned = np.array([_binned(curve, bins, end) for curve in curves])
    present = ~np.isnan(binned)
    alive = np.array([np.arange(bins) <= np.flatnonzero(row)[-1] for row in present]).sum(axis=0)
    x = np.concatenate([curve.x for curve in curves])
    kept = present.any(axis=0) & (2 * alive >= len(curves))
    some = binned[:, kept]
    return Band(
        _binned_mean(x, x, bins, end)[kept],
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


def mean_ranks(means: Sequence[Sequence[float]], directions: Sequence[str]) -> list[float]:
    """The rank of each row of `means` among the rows, averaged over the metrics. 1 is best.

    Equal values share the mean of their ranks.

    Args:
        means: One row a setting, one number a metric [S, K].
        directions: Which direction of each metric is better, "min" or "max" [K].
    """
    table = np.array(means) * [_sign(direction) for direction in directions]
    better = (table[None] < table[:, None]).sum(axis=1)
    equal = (table[None] == table[:, None]).sum(axis=1)
    return [float(rank) for rank in (better + (equal + 1) / 2).mean(axis=1)]


def _sign(direction: str) -> float:
    """The factor that makes a lower number the better one."""
    return -1.0 if direction == "max" else 1.0
