"""Paired t-tests with Holm's correction: for sweeps in which one method is noisier than the others."""

import itertools
import math

import numpy as np

from mtlcluster.collect.inference.difference import Difference, difference, samples_part
from mtlcluster.collect.inference.model import Array


def against_reference(
    z: Array, reference: int, samples: Array | None = None, level: float = 0.95
) -> list[Difference | None]:
    """Compares every method with the reference by its own differences, seed by seed: d̄ ± t·sd/√S.

    Each pair has its own standard deviation, so that one noisy method does not blur or sharpen the others.

    Args:
        z: The values [M, S], with M ≥ 2 and S ≥ 2.
        reference: The row of the reference.
        samples: By method the bootstrap's standard deviation of its difference from the reference [M], or None.
        level: One minus the probability of any false alarm.

    Returns:
        By method its difference; None for the reference itself. An interval leaves out 0 exactly where Holm's
        procedure rejects.
    """
    others = [m for m in range(len(z)) if m != reference]
    d = z[others] - z[reference]
    found: list[Difference | None] = [None] * len(z)
    for m, row, half in zip(others, d, holm_halves(d, level), strict=True):
        part = None if samples is None else samples_part(float(samples[m]), len(others), level)
        found[m] = difference(float(row.mean()), half, float(row.std(ddof=1)), part)
    return found


def best_members(z: Array, level: float = 0.95) -> list[int]:
    """The methods that are not told apart from the one with the best mean, by paired t-tests of all pairs with Holm.

    Args:
        z: The values [M, S], with M ≥ 2 and S ≥ 2.
        level: One minus the probability of any false alarm.
    """
    pairs = list(itertools.combinations(range(len(z)), 2))
    d = np.array([z[i] - z[j] for i, j in pairs])
    halves = dict(zip(pairs, holm_halves(d, level), strict=True))
    means = z.mean(axis=1)
    best = int(means.argmax())
    far = {m for pair in pairs if best in pair for m in pair if abs(means[m] - means[best]) > halves[pair]}
    return [m for m in range(len(z)) if m not in far]


def holm_halves(d: Array, level: float = 0.95) -> list[float]:
    """Half of the paired t-interval of each row, at the level at which Holm's procedure decides on it (Holm 1979).

    The rows are taken by rising p-value. The k-th is held against α/(K − k + 1). From the first that is not rejected,
    all have its level. So an interval leaves out 0 exactly where the row is rejected.

    Args:
        d: The differences of each pair [K, S].
        level: 1 − α.
    """
    from scipy.special import stdtrit

    seeds = d.shape[1]
    errors = d.std(axis=1, ddof=1) / math.sqrt(seeds)
    order = sorted(range(len(d)), key=lambda k: -_ratio(abs(float(d[k].mean())), float(errors[k])))
    halves = [0.0] * len(d)
    left, rejecting = len(d), True
    for k in order:
        halves[k] = float(stdtrit(seeds - 1, 1 - (1 - level) / (2 * left)) * errors[k])
        rejecting = rejecting and abs(float(d[k].mean())) > halves[k]
        left -= rejecting
    return halves


def _ratio(mean: float, error: float) -> float:
    """|t|. Without any error a difference counts as certain, and none as none."""
    if error == 0:
        return math.inf if mean else 0.0
    return mean / error
