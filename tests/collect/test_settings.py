"""Different settings have different labels in tables and figures, with as few digits as that needs."""

import pytest
from rig.synthetic_sweep import TASKS, history, method

from mtlcluster.collect.colours import plain_looks
from mtlcluster.collect.figures import Figures
from mtlcluster.collect.read_histories import finished_run
from mtlcluster.collect.settings import group_runs
from mtlcluster.collect.tables import make_tables


def labels(values: list[object], key: str = "model.x") -> list[str]:
    runs = [history(method(), 0, varied={key: value}, epochs=2, points=4) for value in values]
    found = group_runs([finished_run(f"run-{i}", made) for i, made in enumerate(runs)])
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
    """Names of methods round numbers to six digits. A user's own file is the same method in any folder."""
    options = [{"name": "gradnorm", "alpha": alpha} for alpha in (0.1234567, 0.1234568, 0.1234568)]
    own = [{"name": f"{folder}/own.py:Mine"} for folder in ("/home/one", "/home/other")]
    runs = [history(method(weighting=chosen), seed, label="gradnorm(alpha=0.123457)", epochs=2, points=4)
            for seed, chosen in enumerate(options)]  # fmt: skip
    runs += [history(method(weighting=chosen), seed, label="Mine", epochs=2, points=4)
             for seed, chosen in enumerate(own)]  # fmt: skip
    found = {s.label: len(s.runs) for s in group_runs([finished_run(f"run-{i}", made) for i, made in enumerate(runs)])}
    assert len(found) == 3
    assert sorted(found.values()) == [1, 2, 2]
    assert {label.split()[1] for label in found} == {"alpha=0.1234567", "alpha=0.1234568", "alpha=none"}


@pytest.mark.parametrize("name", ["loss", "train", "weight", "validation"])
def test_a_single_task_run_keeps_its_values_whatever_the_other_tasks_are_called(name: str) -> None:
    tasks: list[dict[str, object]] = [{"name": task, "kind": "regression", "metrics": {}} for task in ("left", name)]
    made = history(method(schedule={"name": "single", "task": "left"}), 0, tasks=tasks, epochs=2, points=4)
    made["info"]["tasks"] = tasks
    run = finished_run("run", made)
    assert {"train/left/loss", "weight/left", "active/left", "validation/left/loss"} <= run.curves.keys()
    assert {"validation/left/loss", "test/left/loss"} <= run.values.keys()


LONG = "/".join(f"{i * i:05}ab" for i in range(30))


@pytest.mark.parametrize("places", [[0, 40, 80, 120], [160, 200, 239], [20], [39, 239], [5, 230]])
def test_long_labels_are_told_apart_in_figures_wherever_they_differ(places: list[int]) -> None:
    in_figures([{"x": LONG}, *({"x": f"{LONG[:at]}{letter}{LONG[at + 1 :]}"} for at in places for letter in "XY")])


def test_so_are_labels_that_differ_in_several_words() -> None:
    several: list[dict[str, object]] = [{"a": a, "b": LONG, "c": c, "d": LONG} for a in (1, 2) for c in (0.1, 0.2)]
    in_figures([*several, {"a": 1, "b": "other", "c": 0.1, "d": "other"}])
    more = [{"a": f"{LONG}{a}", "b": f"{LONG}{b}", "c": f"{LONG}{c}"} for a in "XY" for b in "XY" for c in "XY"]
    in_figures(more)


def in_figures(choices: list[dict[str, object]]) -> None:
    varied = [{f"model.{key}": value for key, value in chosen.items()} for chosen in choices]
    runs = [history(method(), 0, varied=one, tasks=TASKS[:1], epochs=2, points=4) for one in varied]
    found = group_runs([finished_run(f"run-{i}", made) for i, made in enumerate(runs)])
    tasks = found[0].runs[0].tasks
    drawing = Figures(found, tasks, make_tables(found, tasks, {})[0], plain_looks(found))
    rows, _ = drawing.results() or pytest.fail("none")
    lines, _ = drawing.total_loss() or pytest.fail("none")
    for labels in (rows.axes[0].get_yticklabels(), lines.legends[0].get_texts()):
        shown = [label.get_text() for label in labels]
        assert len({*shown}) == len(choices), shown
        assert all(len(line) <= 44 for text in shown for line in text.split("\n"))
