"""The best group: Tukey's test and the permutation test of the range."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mtlcluster.collect.inference.model import fit, smallest_difference
from mtlcluster.collect.inference.tukey import best_group, permutation_p, tukey_constant


@pytest.mark.parametrize(
    ("methods", "df", "printed"), [(2, 5, 3.64), (3, 10, 3.88), (5, 8, 4.89), (5, 20, 4.23), (10, 60, 4.65)]
)
def test_the_constant_has_the_digits_of_the_printed_table(methods, df, printed):
    assert round(tukey_constant(methods, df), 2) == printed


def test_for_two_methods_it_is_the_t_test():
    assert tukey_constant(2, 7) / math.sqrt(2) == pytest.approx(stats.t.ppf(0.975, 7), rel=1e-8)


def test_the_permutation_test_is_that_of_all_tables():
    z = np.random.default_rng(0).standard_normal((4, 3))
    z[1] += 1.5
    orders = [list(order) for order in itertools.permutations(range(4))]
    ranges = [
        np.ptp(sum(z[order, s] for s, order in enumerate(chosen))) for chosen in itertools.product(orders, repeat=3)
    ]
    assert permutation_p(z) == pytest.approx(np.mean(np.array(ranges) >= np.ptp(z.sum(axis=1)) - 1e-9), abs=1e-12)


def test_drawn_permutations_agree_with_enumerated_ones(monkeypatch):
    z = np.random.default_rng(2).standard_normal((3, 6))
    z[0] += 0.8
    enumerated = permutation_p(z)
    monkeypatch.setattr("mtlcluster.collect.inference.tukey.ENUMERATED", 0)
    assert permutation_p(z) == permutation_p(z) == pytest.approx(enumerated, abs=0.03)


def test_the_permutation_test_is_left_out_where_it_can_hardly_reject():
    """(M!)^(S − 1) is 120 for five methods and two seeds, 128 for two methods and eight; 216 and 256 with one more."""
    rng = np.random.default_rng(0)
    assert permutation_p(rng.standard_normal((5, 2))) is None
    assert permutation_p(rng.standard_normal((2, 8))) is None
    assert permutation_p(rng.standard_normal((3, 4))) is not None
    assert permutation_p(rng.standard_normal((2, 9))) is not None
    assert permutation_p(rng.standard_normal((3, 4)), level=0.99) is None


def test_the_permutation_p_value_is_fair_for_equal_methods():
    rng = np.random.default_rng(0)
    p = np.array([permutation_p(rng.standard_normal((3, 5))) for _ in range(500)])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.06)


def test_the_group_holds_what_is_near_the_best_and_no_other():
    z = np.random.default_rng(0).standard_normal((5, 5)) * 0.1 + np.array([[0], [5], [5.05], [1], [4.97]])
    group = best_group(z)
    assert group.members == [1, 2, 4]
    assert group.p_range == 0.001


def test_nobody_is_left_out_where_the_permutation_test_finds_nothing():
    """Among these methods Tukey's test alone would leave one out."""
    z = np.random.default_rng(114).standard_normal((4, 3))
    model = fit(z)
    assert np.ptp(model.means) > 1.05 * smallest_difference(model)
    group = best_group(z)
    assert group.p_range == 36 / 576
    assert group.members == [0, 1, 2, 3]
