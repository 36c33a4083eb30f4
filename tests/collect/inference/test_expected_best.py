"""The expected best of n of N distinct trials."""

import itertools

import numpy as np
import pytest

from mtlcluster.collect.inference.expected_best import (
    against_backwards,
    expected_best,
    expected_best_band,
    expected_best_curve,
)

VALUES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_it_is_the_mean_over_all_subsets(n):
    subsets = list(itertools.combinations(VALUES, n))
    assert expected_best(VALUES, n) == pytest.approx(np.mean([max(s) for s in subsets]), rel=1e-12)
    assert expected_best(VALUES, n, larger_is_better=False) == pytest.approx(
        np.mean([min(s) for s in subsets]), rel=1e-12
    )


def test_its_ends_are_the_mean_and_the_best():
    curve = expected_best_curve(VALUES)
    assert curve[0] == pytest.approx(VALUES.mean())
    assert curve[-1] == VALUES.max()
    assert (np.diff(curve) >= 0).all()
    assert expected_best(np.array([7.0]), 1) == 7


def test_many_trials_keep_their_precision():
    """Of 1, 2, …, N the expected largest of n is n(N + 1)/(n + 1)."""
    n = np.arange(1, 1001)
    assert expected_best_curve(n.astype(float)) == pytest.approx(n * 1001 / (n + 1), rel=1e-9)


def test_the_band_holds_the_curve_and_is_the_same_each_time():
    low, high = expected_best_band(VALUES)
    assert (low <= expected_best_curve(VALUES)).all()
    assert (expected_best_curve(VALUES) <= high).all()
    assert np.array_equal(low, expected_best_band(VALUES)[0])
    lower, upper = expected_best_band(-VALUES, larger_is_better=False)
    assert (lower, upper) == (pytest.approx(-high), pytest.approx(-low))


def test_the_backwards_of_fewer_trials():
    assert against_backwards(np.array([100, 200, 300])).tolist() == [200, 400, 600]
