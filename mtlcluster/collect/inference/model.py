"""The additive model of methods and seeds, and what differences it can tell."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlcluster.collect.inference.tukey_constant import tukey_constant

Array = NDArray[np.float64]

NOISY = 2.0  # times the standard deviation of the other methods
SEEDS_FOR_NOISE = 3  # with fewer, a method's own standard deviation says nothing
MOST_SEEDS = 1000  # more seeds than anybody trains


@dataclass(frozen=True)
class Fit:
    """The additive model z[m, s] = μ_m + b_s + ε, fitted by least squares. Seeds are blocks.

    Attributes:
        means: The mean of each method over its seeds [M].
        sigma: The residual standard deviation σ.
        seeds: S.
    """

    means: Array
    sigma: float
    seeds: int

    @property
    def methods(self) -> int:
        return len(self.means)

    @property
    def df(self) -> int:
        """The degrees of freedom of σ: (M − 1)(S − 1)."""
        return (self.methods - 1) * (self.seeds - 1)


def fit(z: Array) -> Fit:
    """Fits the additive model of a randomized block design (Fisher 1935; Tukey 1949).

    r = z − z̄_m − z̄_s + z̄ and σ² = Σ r² / ((M − 1)(S − 1)). The seeds' effects b_s cancel out of every difference of
    two methods, so that σ holds only what is left after pairing.

    Args:
        z: The values [M, S], with M ≥ 2 and S ≥ 2.

    Returns:
        The model. σ is exactly 0 where the residuals are not larger than rounding.
    """
    residuals = z - z.mean(axis=1, keepdims=True) - z.mean(axis=0, keepdims=True) + z.mean()
    if np.abs(residuals).max() <= 1e-12 * np.abs(z).max():
        residuals = np.zeros_like(z)
    sigma = math.sqrt(float((residuals**2).sum()) / ((z.shape[0] - 1) * (z.shape[1] - 1)))
    return Fit(z.mean(axis=1), sigma, z.shape[1])


def noisy(z: Array) -> list[int]:
    """The methods whose residual standard deviation is above NOISY times the pooled one of the others.

    And so much above it that chance alone names anybody in at most 5 % of sweeps (an F-test with Bonferroni's
    correction): with three methods and five seeds, chance alone gives such a ratio in 47 %.

    A method m is held against the mean of the others, seed by seed: Var(z_m − z̄_others) = σ_m² + σ_others²/(M − 1),
    where σ_others comes from the model of the others alone. So a noisy method can't hide in its own residuals' share
    of the others' (Grubbs 1948 has the same estimate in another form).

    Args:
        z: The values [M, S].

    Returns:
        The rows of these methods. Empty with fewer than three methods or SEEDS_FOR_NOISE seeds.
    """
    methods, seeds = z.shape
    if methods < 3 or seeds < SEEDS_FOR_NOISE:
        return []
    found = []
    for m in range(methods):
        others = np.delete(z, m, axis=0)
        pooled = fit(others).sigma ** 2
        against = float(np.var(z[m] - others.mean(axis=0), ddof=1))
        own = against - pooled / (methods - 1)
        if own > NOISY**2 * pooled and _chance(against, pooled, methods, seeds) <= 0.05 / methods:
            found.append(m)
    return found


def _chance(against: float, pooled: float, methods: int, seeds: int) -> float:
    """The probability of so large a variance against the others' mean if all methods are equally noisy (F-test)."""
    from scipy.special import fdtrc

    if pooled == 0:
        return 0.0
    ratio = against / (pooled * (1 + 1 / (methods - 1)))
    return float(fdtrc(seeds - 1, (methods - 2) * (seeds - 1), ratio))


def smallest_difference(model: Fit, level: float = 0.95) -> float:
    """The smallest difference of two methods that can be told: q(level; M, df)·σ/√S (Tukey 1949).

    Args:
        model: The model.
        level: One minus the probability of any false alarm.
    """
    return tukey_constant(model.methods, model.df, level) * model.sigma / math.sqrt(model.seeds)


def seeds_needed(difference: float, sigma: float, methods: int, level: float = 0.95) -> int | None:
    """How many seeds it would take until a difference of this size is told, see `smallest_difference`.

    A true difference of that size is then seen as large enough in about half of all sweeps (Colas et al. 2019).

    Args:
        difference: The difference between two methods, in the unit of z.
        sigma: The residual standard deviation σ.
        methods: M, at least 2.
        level: One minus the probability of any false alarm.

    Returns:
        The smallest S ≥ 3 at which q·σ/√S is at most the difference. None if it is more than MOST_SEEDS.
    """

    def needed(df: int) -> float:
        return (tukey_constant(methods, df, level) * sigma / difference) ** 2 if difference else math.inf

    fewest = needed((methods - 1) * MOST_SEEDS)  # q falls with df, so that more seeds than these are needed
    if fewest > MOST_SEEDS:
        return None
    seeds = max(3, math.ceil(fewest))
    while needed((methods - 1) * (seeds - 1)) > seeds:
        seeds += 1
    return seeds
