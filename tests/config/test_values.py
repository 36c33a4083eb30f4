"""Short forms of lists: linspace and logspace wherever a list of values may stand."""

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.errors import UserError

HEAD = "name: s\njob: tiny\n"


def varied(grid, key):
    return [run.varied[key] for run in grid.runs]


def test_spaced_numbers_have_both_ends_and_few_digits(write):
    grid = read_grid(write(HEAD + "grid: {optimizer.lr: {logspace: [1e-4, 1e-1, 4]}}\n"))
    assert varied(grid, "optimizer.lr") == [1e-4, 1e-3, 1e-2, 1e-1]
    grid = read_grid(write(HEAD + "grid: {model.slow: {linspace: [0.1, 0.5, 5]}}\n"))
    assert varied(grid, "model.slow") == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_spaced_numbers_in_zip(write):
    text = "zip: [{optimizer.lr: {logspace: [1e-1, 1e-3, 3]}, model.width: {range: [2, 8, 2]}}]\n"
    runs = read_grid(write(HEAD + text)).runs
    assert [(run.config.optimizer.lr, run.config.model["width"]) for run in runs] == [(0.1, 2), (0.01, 4), (0.001, 6)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{logspace: [-4, -1, 4]}", "should have ends above 0"),
        ("{logspace: [1e-4, 1e-1]}", "[first, last, count]"),
        ("{linspace: [0, 1, 2.5]}", "[first, last, count]"),
        ("{linspace: [1, 1, 3]}", "two different numbers"),
        ("{linspace: [0, .inf, 3]}", "[first, last, count]"),
        ("{linspace: [0, 1, 1]}", "a count from 2"),
        ("{linspce: [0, 1, 3]}", "linspce"),
    ],
)
def test_a_wrong_short_form_is_refused_by_line(write, values, message):
    path = write(HEAD + f"grid:\n  model.slow: {values}\n")
    with pytest.raises(UserError) as refused:
        read_grid(path)
    assert str(refused.value).startswith(f"{path}:4: ")
    assert message in str(refused.value)
