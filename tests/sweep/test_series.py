"""Names of series are read as they were made, whatever the tasks are called."""

from itertools import combinations

import pytest

from mtlcluster.problem import Task
from mtlcluster.sweep import series
from mtlcluster.training.recorder import Recorder

TASKS = ["left", "train", "loss"]


def test_the_recorder_makes_every_series_that_is_about_tasks_by_names_that_tell_them():
    tasks = [Task(name, lambda outputs, targets: outputs.sum(), "regression") for name in TASKS]
    names = list(Recorder(tasks, 10, "gramian", with_shares=True).history()["series"])
    about_one = [series.training_loss, series.weight, series.active, series.share, series.gradient_weight]
    about_two = [series.cosine, series.norm_ratio]
    wanted = {make(task): [task] for make in about_one for task in TASKS}
    wanted |= {make(one, other): [one, other] for make in about_two for one, other in combinations(TASKS, 2)}
    wanted |= {name: [] for name in (series.TOTAL_LOSS, series.GRADIENT_NORM, series.CONFLICTING_STEPS)}
    assert {name: series.tasks(name) for name in names if series.kind(name) != "learning_rate"} == wanted


@pytest.mark.parametrize("data", series.EVALUATIONS)
def test_values_of_an_evaluation_are_named_with_their_task_or_without(data):
    for task in TASKS:
        name = series.evaluated(data, "accuracy", task)
        assert name == series.evaluated(data, series.task_value(task, "accuracy")) == f"{data}/{task}/accuracy"
        assert (series.kind(name), series.tasks(name), series.value(name)) == (data, [task], "accuracy")
    assert series.tasks(series.evaluated(data, series.MEAN_LOSS)) == []
    assert series.task_and_value("left/loss") == ("left", "loss")
    assert series.task_and_value(series.MEAN_LOSS) == ("", series.MEAN_LOSS)
    assert series.is_confusion(series.evaluated(data, series.CONFUSION, "left"))
    assert not series.is_confusion(series.evaluated(data, series.LOSS, series.CONFUSION))
