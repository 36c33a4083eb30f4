"""The additive model of methods and seeds, against a table that is worked by hand."""

import numpy as np
import pytest

from mtlcluster.collect.inference.model import Fit, fit, noisy, seeds_needed, smallest_difference
from mtlcluster.collect.inference.tukey import tukey_constant

# Means of the methods 2, 3, 6; of the seeds 3, 4, 4; of all 11/3. Residuals −1/3 and 2/3; their squares add to 2.
BY_HAND = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 3.0], [6.0, 6.0, 6.0]])


def test_a_table_worked_by_hand():
    model = fit(BY_HAND)
    assert model.means.tolist() == [2, 3, 6]
    assert model.df == 4
    assert model.sigma**2 == pytest.approx(0.5, abs=1e-12)


def test_what_a_seed_does_to_all_methods_changes_nothing():
    z = np.random.default_rng(0).standard_normal((5, 4))
    shifted = z + np.array([[100.0, -3.0, 0.0, 7.0]])
    assert fit(shifted).sigma == pytest.approx(fit(z).sigma, rel=1e-9)


def test_sigma_is_the_residual_standard_deviation_of_the_runs():
    rng = np.random.default_rng(0)
    found = [fit(2 * rng.standard_normal((5, 3)) + 9 * rng.standard_normal((1, 3))).sigma ** 2 for _ in range(4000)]
    assert np.mean(found) == pytest.approx(4, rel=0.03)


def test_rounding_is_no_variance():
    z = np.array([[0.1], [0.2], [0.7]]) + np.array([[0.3, 1e3, 1 / 3]])
    assert fit(z).sigma == 0


def test_the_smallest_difference_of_the_table_by_hand():
    """The printed q(0.95; 3, 4) is 5.04."""
    assert smallest_difference(fit(BY_HAND)) == pytest.approx(5.04 * 0.5**0.5 / 3**0.5, abs=0.005)


@pytest.mark.parametrize(("difference", "methods"), [(0.3, 5), (1.0, 2), (1.0, 10), (2.5, 5)])
def test_the_seeds_needed_are_the_first_that_tell_the_difference(difference, methods):
    seeds = seeds_needed(difference, 1.0, methods)
    assert seeds == seeds_needed(-10 * difference, 10.0, methods)
    means = np.zeros(methods)
    assert smallest_difference(Fit(means, 1.0, seeds)) <= difference < smallest_difference(Fit(means, 1.0, seeds - 1))


def test_no_number_of_seeds_tells_what_is_not_there_and_three_are_the_fewest():
    assert seeds_needed(0.0, 1.0, 5) is None
    assert seeds_needed(1e-3, 1.0, 5) is None
    assert seeds_needed(1e6, 1.0, 5) == 3
    assert tukey_constant(5, 8) > 0


def test_a_method_that_is_much_noisier_than_the_others_is_named():
    rng = np.random.default_rng(0)
    found = [noisy(rng.standard_normal((5, 10)) * np.array([[1], [1], [8], [1], [1]])) for _ in range(200)]
    assert np.mean([named == [2] for named in found]) > 0.95


@pytest.mark.parametrize(("times", "share"), [(3, 0.6), (4, 0.8)])
def test_a_method_of_three_or_four_times_the_noise_is_mostly_named(times, share):
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(10) == 2, times, 1)[:, None]
    found = [noisy(rng.standard_normal((10, 5)) * scale) for _ in range(300)]
    assert np.mean([2 in named for named in found]) > share


@pytest.mark.parametrize(("methods", "seeds"), [(3, 3), (3, 5), (5, 3), (5, 5), (10, 3)])
def test_chance_alone_rarely_names_a_noisy_method(methods, seeds):
    rng = np.random.default_rng(0)
    assert np.mean([bool(noisy(rng.standard_normal((methods, seeds)))) for _ in range(500)]) < 0.07


def test_two_methods_or_two_seeds_tell_nothing_of_noise():
    assert noisy(np.array([[0.0, 0, 0, 0, 0], [1, -50, 30, 7, 900]])) == []
    assert noisy(np.array([[0.0, 0], [0, 1e-9], [-900, 900]])) == []
