"""Settings that differ have labels that differ, in tables and in figures, with no more digits than that takes."""

import pytest
from collect.synthetic import history, method

from mtlcluster.collect import style
from mtlcluster.collect.gather import finished_run
from mtlcluster.collect.settings import settings


def labels(values: list[object], key: str = "model.x") -> list[str]:
    runs = [history(method(), 0, varied={key: value}, epochs=2, points=4) for value in values]
    found = settings([finished_run(f"run-{i}", made) for i, made in enumerate(runs)])
    return sorted(setting.label.removeprefix("equal ") for setting in found)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.001234567, 0.001234568, 0.01], ["x=0.001234567", "x=0.001234568", "x=0.01"]),
        ([0.1 + 0.2, 0.3], ["x=0.3", "x=0.30000000000000004"]),
        ([0.5, 1 / 3, 1e-3, 0.001], ["x=0.001", "x=0.333333", "x=0.5"]),
        ([123456789.0, 123456788.0, 5.0], ["x=123456788", "x=123456789", "x=5"]),
        ([[0.12345678, 1], [0.12345679, 1]], ["x=0.12345678,1", "x=0.12345679,1"]),
        ([[1, 2], "1,2"], ['x="1,2"', "x=[1, 2]"]),
        ([1, 1.5, "1"], ['x="1"', "x=1", "x=1.5"]),
        ([None, "none"], ['x="none"', "x=null"]),
        ([True, "True", False], ['x="True"', "x=false", "x=true"]),
    ],
)
def test_values_that_differ_are_told_apart_with_the_fewest_digits(values: list[object], shown: list[str]) -> None:
    assert labels(values) == shown


def test_a_method_is_not_averaged_with_another_whose_name_is_the_same() -> None:
    """Names of methods have six digits; and a file of one's own is the same in another folder."""
    options = [{"name": "gradnorm", "alpha": alpha} for alpha in (0.1234567, 0.1234568, 0.1234568)]
    own = [{"name": f"{folder}/own.py:Mine"} for folder in ("/home/one", "/home/other")]
    runs = [history(method(weighting=chosen), seed, label="gradnorm(alpha=0.123457)", epochs=2, points=4)
            for seed, chosen in enumerate(options)]  # fmt: skip
    runs += [history(method(weighting=chosen), seed, label="Mine", epochs=2, points=4)
             for seed, chosen in enumerate(own)]  # fmt: skip
    found = {s.label: len(s.runs) for s in settings([finished_run(f"run-{i}", made) for i, made in enumerate(runs)])}
    assert len(found) == 3
    assert sorted(found.values()) == [1, 2, 2]
    assert {label.split()[1] for label in found} == {"alpha=0.1234567", "alpha=0.1234568", "alpha=none"}


@pytest.mark.parametrize(("room", "lines"), [(34, 1), (44, 3)])
def test_long_labels_are_told_apart_in_figures(room: int, lines: int) -> None:
    """Wherever they differ, be it within a word or in several words."""
    long = "x" * room * lines
    for at in range(0, len(long) * 3, 7):
        one_word = [f"path={'a' * at}{letter}{'b' * (len(long) * 3 - at)}" for letter in ("X", "Y", "YZ")]
        together(["plain", *one_word], room, lines)
    several = [f"pcgrad {long} lr={a} {long} decay={b} {long}" for a in (0.1, 0.2) for b in (1, 2)]
    together(["plain", *several], room, lines)


def together(texts: list[str], room: int, lines: int) -> None:
    shown = style.wrapped_apart(texts, room, lines)
    assert len({*shown}) == len(texts), shown
    assert shown[0] == "plain"
    assert all(len(line) <= room for text in shown for line in text.split("\n"))
    assert all(text.count("\n") < lines for text in shown)
