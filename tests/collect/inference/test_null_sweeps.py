"""How often a comparison names somebody wrongly, and how often rightly: simulated sweeps in memory."""

import math

import numpy as np
import pytest

from mtlcluster.collect.inference.compare import Comparison, compare

SHAPES = [(5, 3), (10, 3), (5, 5), (10, 5)]


def sweeps(count: int, methods: int, seeds: int, shared: float, lead: float = 0.0) -> list[Comparison]:
    """Comparisons of methods with residual standard deviation 1; `shared` is the seeds' share of the variance.

    Row 0 is the reference. All methods are equal but row 1, which is better by `lead`.
    """
    rng = np.random.default_rng(methods * 100 + seeds)
    noise = rng.standard_normal((count, methods, seeds))
    noise += math.sqrt(shared / (1 - shared)) * rng.standard_normal((count, 1, seeds))
    noise[:, 1] += lead
    return [compare(z, 0, delta=0.0) for z in noise]


def share(found: list[bool]) -> float:
    return float(np.mean(found))


def names_somebody(found: Comparison) -> bool:
    return found.strict or "better" in found.words


@pytest.mark.parametrize(("methods", "seeds"), SHAPES)
def test_equal_methods_rarely_have_a_winner(methods, seeds):
    assert share([names_somebody(found) for found in sweeps(200, methods, seeds, 0.6)]) <= 0.08


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shared", [0.0, 0.6])
@pytest.mark.parametrize(("methods", "seeds"), SHAPES)
def test_equal_methods_rarely_have_a_winner_in_many_sweeps(methods, seeds, shared):
    assert share([names_somebody(found) for found in sweeps(2000, methods, seeds, shared)]) <= 0.065


@pytest.mark.parametrize(("lead", "better", "group"), [(3.0, 0.9, 0.9), (2.0, 0.6, 0.7)])
def test_a_method_that_is_better_is_called_so(lead, better, group):
    """At five methods and five seeds; the lead is in residual standard deviations."""
    found = sweeps(500, 5, 5, 0.6, lead)
    assert share([one.words[1] == "better" for one in found]) >= better
    assert share([one.strict and 1 in one.best_group for one in found]) >= group
