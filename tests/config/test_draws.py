"""Draws: their values, and the one sequence that all of them come from."""

import numpy as np
import pytest

from mtlcluster.config.draws import Choice, Loguniform, Uniform, sequence


def test_more_points_begin_with_the_same_ones_and_another_seed_gives_others():
    few, many = sequence(0, 12), sequence(0, 100)
    assert np.array_equal(few[:12], many[:12])
    assert not np.array_equal(few[:12], sequence(1, 12)[:12])
    assert few.shape[1] == 64


def test_drawn_numbers_have_four_digits_and_stay_inside_the_bounds():
    assert Uniform(uniform=[0, 3]).at(0.123456) == 0.3704
    assert Loguniform(loguniform=[1e-4, 1e-2]).at(0.5) == 1e-3
    narrow = Uniform(uniform=[1.00004, 1.00056])
    assert [narrow.at(0.0), narrow.at(0.999)] == [1.00004, 1.00056]


def test_a_choice_is_each_of_its_values_equally_often():
    drawn = [Choice(choice=["a", "b", "c"]).at(point[0]) for point in sequence(0, 300)[:300]]
    assert {value: round(drawn.count(value) / 10) for value in "abc"} == {"a": 10, "b": 10, "c": 10}


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [("uniform", [1, 1]), ("uniform", [2, 1]), ("uniform", [1]), ("uniform", [0, float("nan")]),
     ("loguniform", [0, 1]), ("loguniform", [-1, 1])],
)  # fmt: skip
def test_bounds_that_are_no_interval_are_refused(kind, bounds):
    with pytest.raises(ValueError, match="should"):
        {"uniform": Uniform, "loguniform": Loguniform}[kind].model_validate({kind: bounds})
