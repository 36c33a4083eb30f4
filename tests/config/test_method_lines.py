"""Lines of the list `method` that stand for several methods: single-task baselines and static weights."""

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.config.method_lines import static_weights
from mtlcluster.errors import UserError

HEAD = "name: s\njob: tiny\n"
TASKS = ["a", "b", "c"]


def methods(grid):
    return [run.config.method for run in grid.runs]


def test_single_without_a_task_is_a_baseline_for_each_task(write):
    grid = read_grid(write(HEAD + "set: {tasks: [a, b]}\ngrid: {method: [equal, single, {schedule: single}]}\n"))
    assert [method["schedule"].get("task") for method in methods(grid)] == [None, "a", "b"]
    assert grid.repeated == 2
    write("job: tiny\ntasks: [a, b]\n", "base.yaml")
    grid = read_grid(write(HEAD + "base: base.yaml\ngrid: {method: [{schedule: {name: single}}]}\n"))
    assert [method["schedule"]["task"] for method in methods(grid)] == ["a", "b"]


def test_static_draws_equal_weights_then_the_corners_then_points_between(write):
    text = "set: {tasks: [a, b, c]}\ngrid: {method: [{weighting: {name: static, draws: 6}, gradient: pcgrad}]}\n"
    found = [method["weighting"]["weights"] for method in methods(read_grid(write(HEAD + text)))]
    assert found[0] == {"a": 1, "b": 1, "c": 1}
    assert found[1:4] == [{task: 2.9 if task == corner else 0.05 for task in TASKS} for corner in TASKS]
    assert len(found) == 6


def test_drawn_weights_sum_to_the_number_of_tasks_and_leave_no_task_out():
    weights = static_weights(TASKS, 300, 2, 0)
    assert all(sum(setting.values()) == pytest.approx(3, abs=2e-3) for setting in weights)
    assert min(min(setting.values()) for setting in weights) == 0.05
    drawn = [setting["a"] for setting in weights[4:]]
    assert sum(weight > 1.04 for weight in drawn) / len(drawn) == pytest.approx(0.443, abs=0.03)  # (1 - 0.99/2.85)²
    assert static_weights(TASKS, 20, 2, 0) == weights[:20]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("{schedule: single}", "single without a task needs the names of the tasks; add to the grid: set: {tasks:"),
        ("{weighting: {name: static, draws: 3}}", "static with `draws` needs the names of the tasks"),
        ("{weighting: {name: static, draws: 0}}", "draws should be a count from 1"),
        ("{weighting: {name: static, draws: 3, weights: {a: 1}}}", "either `draws` or `weights`"),
        ("{weighting: {name: gradnorm, alpha: {uniform: [0.1, 3]}}}", "is drawn, which needs `tune`"),
        ("{weighting: {name: gradnorm, alpha: {uniform: [3, 0.1]}}}", "low below high"),
    ],
)
def test_a_line_that_can_not_be_expanded_is_refused_by_line(write, method, message):
    path = write(HEAD + f"grid:\n  method:\n    - equal\n    - {method}\n")
    with pytest.raises(UserError) as refused:
        read_grid(path)
    assert str(refused.value).startswith(f"{path}:6: ")
    assert message in str(refused.value)
