"""Asynchronous successive halving: the decisions, as pure functions."""

import json
import re

import pytest

from mtlcluster.sweep.pruning import due, is_kept, is_stopped, take_up
from mtlcluster.sweep.reading import Unreadable
from mtlcluster.sweep.status import read_status

KEPT = {"at": 0.1, "value": 1.0, "kept": True}


def test_a_rung_is_due_at_the_first_validation_at_or_after_it():
    assert due([0.3, 0.1], [], step=9, steps=100) == []
    assert due([0.3, 0.1], [], step=10, steps=100) == [0.1]
    assert due([0.3, 0.1], [KEPT], step=29, steps=100) == []
    assert due([0.3, 0.1], [KEPT], step=30, steps=100) == [0.3]
    assert due([0.1, 0.3], [], step=50, steps=100) == [0.1, 0.3]  # both, if validations are rare
    assert due([0.07], [], step=7, steps=100) == [0.07]  # though 0.07 * 100 is more than 7 in floating point


def test_a_run_at_its_end_or_pruned_before_has_no_rung_any_more():
    assert due([0.1, 0.3], [], step=100, steps=100) == []
    assert due([0.1, 0.3], [{**KEPT, "kept": False}], step=60, steps=100) == []


def test_a_run_that_was_taken_up_again_is_stopped_no_more():
    rungs = [{**KEPT}, {**KEPT, "at": 0.3, "kept": False}]
    assert is_stopped(rungs)
    take_up(rungs)
    assert not is_stopped(rungs)
    assert due([0.1, 0.3, 0.5], rungs, step=60, steps=100) == []
    assert [rung["kept"] for rung in rungs] == [True, False]


@pytest.mark.parametrize(
    ("value", "others", "kept"),
    [
        (9.0, [], True),  # nobody to compare with
        (9.0, [1.0], True),  # 2 of the 3 that it takes
        (9.0, [1.0, 2.0], False),
        (1.5, [1.0, 2.0], False),  # ⌈3/3⌉ = 1 goes on
        (0.5, [1.0, 2.0], True),
        (1.0, [1.0, 1.0], True),  # ties go on
        (1.5, [1.0, 2.0, 3.0], True),  # ⌈4/3⌉ = 2 go on
        (2.5, [1.0, 2.0, 3.0], False),
    ],
)
def test_it_goes_on_if_it_is_among_the_best(value, others, kept):
    assert is_kept(value, others, keep=1 / 3, direction="min") is kept
    assert is_kept(-value, [-other for other in others], keep=1 / 3, direction="max") is kept


def test_a_third_as_people_write_it_takes_four():
    """1/0.33 is more than 3."""
    assert is_kept(9.0, [1.0, 2.0], keep=0.33, direction="min")
    assert not is_kept(9.0, [1.0, 2.0, 3.0], keep=0.33, direction="min")


@pytest.mark.parametrize(
    "rung",
    ["0.1", {"at": 0.1}, {"value": 1.0}, {**KEPT, "value": float("nan")}, {**KEPT, "at": "0.1"}, {**KEPT, "kept": 1}],
)
def test_a_status_with_a_damaged_rung_is_unreadable(rung, tmp_path):
    path = tmp_path / "status.json"
    path.write_text(json.dumps({"state": "running", "rungs": [KEPT, rung]}))
    with pytest.raises(Unreadable, match=re.escape(f"{path}: ") + ".* in rungs is no value at a rung"):
        read_status(path)
