"""Paired t-tests with Holm's correction."""

import numpy as np
import pytest
from scipy import stats

from mtlcluster.collect.inference.paired import against_reference, best_members, holm_halves


def rejected_by_holm(p: np.ndarray, alpha: float) -> set[int]:
    found: set[int] = set()
    for k, i in enumerate(np.argsort(p)):
        if p[i] > alpha / (len(p) - k):
            break
        found.add(int(i))
    return found


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_an_interval_leaves_out_zero_exactly_where_holm_rejects(level):
    rng = np.random.default_rng(0)
    some = 0
    for _ in range(200):
        d = rng.standard_normal((4, 5)) * rng.uniform(0.2, 3, (4, 1)) + rng.uniform(-2, 2, (4, 1))
        expected = rejected_by_holm(stats.ttest_1samp(d, 0, axis=1).pvalue, 1 - level)
        assert {k for k, half in enumerate(holm_halves(d, level)) if abs(d[k].mean()) > half} == expected
        some += 0 < len(expected) < 4
    assert some > 30


def test_after_the_first_that_is_not_rejected_holm_rejects_none():
    """Both rows have p-values between 0.025 and 0.05."""
    t = stats.t.ppf(1 - np.array([0.03, 0.04]) / 2, 4)
    noise = np.array([-2.0, -1, 0, 1, 2])
    d = noise + t[:, None] * noise.std(ddof=1) / 5**0.5
    assert (np.array(holm_halves(d)) > d.mean(axis=1)).all()


def test_a_single_comparison_has_the_t_interval():
    z = np.random.default_rng(0).standard_normal((2, 6))
    found = against_reference(z, 1)[0]
    d = z[0] - z[1]
    half = stats.t.ppf(0.975, 5) * d.std(ddof=1) / 6**0.5
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-9)


def test_each_pair_has_its_own_noise():
    """A method with a hundredfold noise leaves the interval of a quiet one as it is."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((3, 6)) * 0.1 + [[0], [1], [0]]
    z[2] *= 1000
    _, quiet, loud = against_reference(z, 0)
    assert quiet.low > 0
    assert loud.half_seeds > 20 * quiet.half_seeds


def test_runs_that_are_the_same_have_no_difference():
    z = np.random.default_rng(0).standard_normal((3, 5))
    z[1] = z[0]
    assert against_reference(z, 0)[1].mean == 0
    assert against_reference(z, 0)[1].p_better == 0.5
    assert {0, 1} <= {*best_members(z)}


def test_the_best_members_are_those_not_told_apart_from_the_best():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((5, 8)) * np.array([[0.1], [0.1], [3], [0.1], [0.1]]) + [[0], [5], [4], [5], [1]]
    assert best_members(z) == [1, 2, 3]
