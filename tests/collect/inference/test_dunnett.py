"""Dunnett's constant and intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from mtlcluster.collect.inference import dunnett
from mtlcluster.collect.inference.dunnett import against_reference, dunnett_constant

# Dunnett 1964, table II: two-sided, 5 %, for 1 to 9 comparisons.
PRINTED = {
    5: [2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97],
    10: [2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24],
    20: [2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95],
    60: [2.00, 2.27, 2.41, 2.51, 2.58, 2.64, 2.69, 2.73, 2.77],
}


@pytest.mark.parametrize("df", PRINTED)
def test_the_constant_has_the_digits_of_the_printed_table(df):
    assert [round(dunnett_constant(k, df), 2) for k in range(1, 10)] == PRINTED[df]


@pytest.mark.parametrize("df", [1, 2, 8, 36, 400])
@pytest.mark.parametrize("level", [0.95, 0.995])
def test_a_finer_quadrature_gives_the_same_constant(df, level):
    for comparisons in (2, 14):
        finer = dunnett._constant(comparisons, df, level, 2 * dunnett.NODES)
        assert dunnett_constant(comparisons, df, level) == pytest.approx(finer, rel=1e-8)


def test_the_constant_holds_in_a_simulation():
    """4 methods against a reference, 8 degrees of freedom."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 5))
    s = np.sqrt(rng.chisquare(8, 200_000) / 8)
    largest = (np.abs(x[:, 1:] - x[:, :1]) / s[:, None]).max(axis=1) / math.sqrt(2)
    assert np.mean(largest <= dunnett_constant(4, 8)) == pytest.approx(0.95, abs=0.002)


def test_two_methods_have_the_paired_t_interval():
    z = np.random.default_rng(0).standard_normal((2, 5))
    d = z[1] - z[0]
    half = stats.t.ppf(0.975, 4) * d.std(ddof=1) / math.sqrt(5)
    none, found = against_reference(z, 0)
    assert none is None
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-9)
    assert found.p_better == pytest.approx(stats.norm.cdf(d.mean() / d.std(ddof=1)), rel=1e-9)


def test_the_intervals_of_a_table_worked_by_hand():
    """σ² = 0.5 with 4 degrees of freedom (see test_model) and 3 seeds; the printed constant is 3.31."""
    z = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 3.0], [6.0, 6.0, 6.0]])
    found = against_reference(z, 2)
    half = dunnett_constant(2, 4) * math.sqrt(0.5 * 2 / 3)
    assert dunnett_constant(2, 4) == pytest.approx(3.31, abs=0.01)
    assert [(one.mean, one.low, one.high) for one in found[:2]] == [
        pytest.approx((d, d - half, d + half), rel=1e-9) for d in (-4, -3)
    ]


def test_the_test_datas_own_error_widens_the_interval():
    z = np.random.default_rng(0).standard_normal((5, 5))
    alone = against_reference(z, 1)
    both = against_reference(z, 1, np.array([0.5, 0.0, 2.0, 0.0, 1.0]))
    quantile = stats.norm.ppf(1 - 0.05 / (2 * 4))
    for one, other, sd in zip(alone, both, [0.5, 0, 2, 0, 1], strict=True):
        if one is not None:
            assert (other.half_seeds, other.half_samples) == pytest.approx((one.half_seeds, quantile * sd), rel=1e-9)
            assert other.high - other.mean == pytest.approx(math.hypot(one.half_seeds, quantile * sd), rel=1e-9)
            assert (one.half_samples, one.p_better) == (None, other.p_better)


def sweep(rng: np.random.Generator, methods: int, seeds: int, shared: float) -> np.ndarray:
    """Equal methods with residual standard deviation 1; `shared` is the seeds' share of the variance."""
    common = math.sqrt(shared / (1 - shared)) * rng.standard_normal((1, seeds))
    return rng.standard_normal((methods, seeds)) + common


@pytest.mark.parametrize("shared", [0.0, 0.6])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("methods", [5, 10])
def test_all_intervals_together_cover_in_95_of_100_sweeps(methods, seeds, shared):
    rng = np.random.default_rng(seeds)
    true = np.arange(methods) / 3
    held = []
    for _ in range(2000):
        found = against_reference(sweep(rng, methods, seeds, shared) + true[:, None], 0)
        held.append(all(one.low <= d <= one.high for one, d in zip(found[1:], true[1:], strict=True)))
    assert 0.93 <= np.mean(held) <= 0.97
