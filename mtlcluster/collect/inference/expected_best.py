"""The expected best of fewer trials: what a method's search would have found with a smaller budget."""

import numpy as np

from mtlcluster.collect.inference.model import Array


def expected_best_curve(values: Array, larger_is_better: bool = True) -> Array:
    """The expected best value of n of N distinct trials, for every n from 1 to N.

    E_n = Σ_i V(i)·C(i − 1, n − 1)/C(N, n), with V sorted ascending where larger is better, else descending: V(i) is the
    best of n exactly if the other n − 1 are among the i − 1 below it. Drawn without replacement, so without the bias of
    the form with replacement (Dodge et al. 2019; Tang et al. 2020).

    Args:
        values: The value of each trial [N].
        larger_is_better: False for losses.

    Returns:
        E_n [N], n from 1.
    """
    ascending = np.sort(values) if larger_is_better else np.sort(values)[::-1]
    return _shares(len(values)) @ ascending


def expected_best(values: Array, n: int, larger_is_better: bool = True) -> float:
    """The expected best value of n of these trials, see `expected_best_curve`.

    Args:
        values: The value of each trial [N].
        n: From 1 to N.
        larger_is_better: False for losses.
    """
    return float(expected_best_curve(values, larger_is_better)[n - 1])


def expected_best_band(
    values: Array, larger_is_better: bool = True, level: float = 0.95, draws: int = 1000
) -> tuple[Array, Array]:
    """A band around the curve, by a bootstrap over the trials (percentiles, Efron 1979) with a fixed seed.

    Args:
        values: The value of each trial [N].
        larger_is_better: False for losses.
        level: The share of draws between both curves, at each n.
        draws: The number of draws.

    Returns:
        The lower and the upper curve [N].
    """
    drawn = np.sort(np.random.default_rng(0).choice(values, (draws, len(values))), axis=1)
    curves = (drawn if larger_is_better else drawn[:, ::-1]) @ _shares(len(values)).T
    low: Array = np.quantile(curves, (1 - level) / 2, axis=0)
    high: Array = np.quantile(curves, (1 + level) / 2, axis=0)
    return low, high


def against_backwards(backwards: Array) -> Array:
    """The backward passes that n of N trials take on average: n times their mean. The other axis of the curve [N].

    Args:
        backwards: What each trial really spent [N].
    """
    return np.cumsum(np.full(len(backwards), np.mean(backwards)))


def _shares(trials: int) -> Array:
    """C(i − 1, n − 1)/C(N, n) as [n, i], from i = N down: n/N, then each times (i − n)/(i − 1)."""
    n = np.arange(1, trials + 1)
    shares = np.zeros((trials, trials))
    shares[:, -1] = n / trials
    for i in range(trials, 1, -1):
        shares[:, i - 2] = shares[:, i - 1] * np.maximum(i - n, 0) / (i - 1)
    return shares
