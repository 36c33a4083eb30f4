"""The best group: the methods that are not told apart from the best one."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from mtlcluster.collect.inference.model import Array, fit, smallest_difference
from mtlcluster.collect.inference.tukey_constant import tukey_constant

__all__ = ["BestGroup", "best_group", "permutation_p", "tukey_constant"]

ENUMERATED = 10_000  # permutations; of more, DRAWS are drawn
DRAWS = 999
SHARE = 0.1  # of the allowed false alarms. Where the smallest possible p-value is larger, the test is left out


@dataclass(frozen=True)
class BestGroup:
    """The methods that are not told apart from the best.

    Attributes:
        members: Their rows; all methods where none is told apart.
        p_range: The p-value of the permutation test that all methods are equal; None where it is left out.
    """

    members: list[int]
    p_range: float | None


def best_group(z: Array, level: float = 0.95) -> BestGroup:
    """The methods with max z̄ − z̄_m ≤ q(level; M, df)·σ/√S (Tukey 1949), unless the permutation test finds none apart.

    Args:
        z: The values [M, S], with M ≥ 2 and S ≥ 2.
        level: One minus the probability that a method is wrongly left out if all are equal.
    """
    model = fit(z)
    p = permutation_p(z, level)
    far = model.means.max() - model.means > smallest_difference(model, level)
    if p is not None and p > 1 - level:
        far[:] = False
    return BestGroup([int(m) for m in np.flatnonzero(~far)], p)


def permutation_p(z: Array, level: float = 0.95) -> float | None:
    """The p-value of the range of the methods' means, if the methods' names are permuted within each seed.

    If all methods are equal, every one of the (M!)^S tables is equally probable (Fisher 1935). Since the range does not
    change if all seeds are permuted alike, the first seed stays as it is. Up to ENUMERATED tables are enumerated; else
    DRAWS are drawn with a fixed seed, and p = (1 + hits)/(1 + draws) (Phipson and Smyth 2010).

    Args:
        z: The values [M, S].
        level: One minus the probability of a false alarm.

    Returns:
        The p-value. None where (M!)^(S − 1) ≥ 10/(1 − level), 200 at 95 %, does not hold: then it can hardly reject.
    """
    methods, seeds = z.shape
    tables = math.factorial(methods) ** (seeds - 1)
    if tables < (1 - 1e-9) / ((1 - level) * SHARE):  # not multiplied: it may be larger than any float
        return None
    limit = np.ptp(z.sum(axis=1)) * (1 - 1e-9)
    if tables <= ENUMERATED:
        return float((np.ptp(_all_sums(z), axis=1) >= limit).mean())
    drawn = np.random.default_rng(0).permuted(np.broadcast_to(z.T, (DRAWS, seeds, methods)), axis=2)
    return float(1 + (np.ptp(drawn.sum(axis=1), axis=1) >= limit).sum()) / (1 + DRAWS)


def _all_sums(z: Array) -> Array:
    """The methods' sums over the seeds of every table [(M!)^(S − 1), M]."""
    orders = np.array(list(itertools.permutations(range(len(z)))))
    sums = z[:, :1].T
    for values in z.T[1:]:
        sums = (sums[:, None] + values[orders]).reshape(-1, len(z))
    return sums
