"""The comparison as a whole: which test is used when, and which words follow."""

import math

import numpy as np
import pytest

from mtlcluster.collect.inference import dunnett, paired
from mtlcluster.collect.inference.compare import compare, compare_tasks
from mtlcluster.collect.inference.difference import Difference, words

RNG = np.random.default_rng(5)
CLEAR = RNG.standard_normal((4, 5)) * 0.1 + [[0], [3], [-3], [0.05]]


def test_what_is_clearly_better_or_worse_is_called_so():
    found = compare(CLEAR, 0, delta=0.5)
    assert found.test == "pooled"
    assert found.words == [None, "better", "worse", "the same within δ"]
    assert (found.best_group, found.strict) == ([1], True)
    assert found.differences == dunnett.against_reference(CLEAR, 0)


def interval(low: float, high: float, p_better: float) -> Difference:
    return Difference((low + high) / 2, low, high, (high - low) / 2, None, p_better)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (interval(0.5, 4, 0.9), "better"),
        (interval(0.5, 4, 0.74), "not told apart"),
        (interval(-4, -0.5, 0.1), "worse"),
        (interval(-4, -0.5, 0.3), "not told apart"),
        (interval(-0.5, 4, 0.9), "not told apart"),
        (interval(-0.9, 0.9, 0.5), "the same within δ"),
        (interval(0.1, 0.9, 0.99), "the same within δ"),
        (interval(-1.1, 0.9, 0.4), "not told apart"),
        (interval(math.nan, math.nan, math.nan), "not tested"),
    ],
)
def test_the_words_of_an_interval_where_one_point_matters(found, word):
    assert words(found, delta=1.0) == word


def test_one_seed_tests_nothing():
    found = compare(np.array([[0.0], [50.0], [-3.0]]), 0, 1.0)
    assert (found.test, found.strict, found.p_range, found.seeds_needed()) == ("none", False, None, None)
    assert found.best_group == [0, 1, 2]
    assert found.words == [None, "not tested", "not tested"]
    assert found.differences[1].mean == 50
    assert math.isnan(found.differences[1].low)
    assert math.isnan(found.smallest_difference)


def test_two_seeds_give_intervals_and_no_best_group():
    found = compare(CLEAR[:, :2], 0, 1.0)
    assert found.test == "pooled"
    assert found.differences[1].low > 0
    assert not found.strict


def test_runs_that_differ_by_nothing_but_the_method_are_not_tested():
    """Every seed gives the same difference: there is no variance to hold it against."""
    found = compare(np.array([[0.1], [0.7], [0.1]]) + np.array([[1.0, 2.0, 0.3]]), 0, 1.0)
    assert (found.test, found.sigma, found.strict) == ("none", 0, False)
    assert found.words == [None, "not tested", "not tested"]


def test_a_method_alone_is_compared_with_nothing():
    for z in (np.array([[1.0, 2.0, 4.0]]), np.array([[1.0]])):
        found = compare(z, 0, 1.0)
        assert (found.test, found.differences, found.words, found.best_group) == ("none", [None], [None], [0])


def test_two_methods():
    found = compare(np.array([[0.0, 0.1, -0.1], [3.0, 3.3, 3.1]]), 0, 1.0)
    assert (found.words, found.best_group, found.p_range) == ([None, "better"], [1], None)


def test_runs_equal_to_the_references_are_the_same():
    z = np.vstack([CLEAR, CLEAR[:1]])
    found = compare(z, 0, 1.0)
    assert found.differences[4].mean == 0
    assert found.words[4] == "the same within δ"


def test_without_a_reference_only_the_group_is_said():
    found = compare(CLEAR, None, 1.0)
    assert found.differences == found.words == [None] * 4
    assert found.strict


def loud(seeds: int) -> np.ndarray:
    z = np.random.default_rng(3).standard_normal((5, seeds)) * 0.1
    z[2] *= 100
    z[1] += 3
    return z


def test_a_noisy_method_has_all_compared_by_pairs():
    z = loud(6)
    found = compare(z, 0, 0.5)
    assert (found.test, found.noisy) == ("paired", [2])
    assert found.differences == paired.against_reference(z, 0)
    assert found.words[1] == "better"
    assert found.best_group == paired.best_members(z)


def test_below_five_seeds_a_noisy_method_is_only_named():
    found = compare(loud(4), 0, 0.5)
    assert (found.test, found.noisy) == ("pooled", [2])


def test_the_test_datas_own_error_can_take_a_word_back():
    assert compare(CLEAR, 0, 0.5, samples=np.full(4, 5.0)).words == [None] + ["not told apart"] * 3


def test_tasks_share_the_allowed_false_alarms():
    found = compare_tasks([CLEAR, CLEAR[::-1], CLEAR], 0, 0.5)
    assert found[0].differences == dunnett.against_reference(CLEAR, 0, level=1 - 0.05 / 3)
    assert found[1].words == [None, "worse", "better", "the same within δ"]
