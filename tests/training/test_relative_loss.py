"""The value that chooses the checkpoint by default: losses relative to those of constant outputs."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rig.tiny_runs import assert_same, tiny, tiny_with_stops
from torch import nn

from mtlcluster import MultiTaskModel, Problem, StopRequested, Task, TensorData, train
from mtlcluster.training.distributed import ALONE
from mtlcluster.training.relative_loss import RelativeLoss
from mtlcluster.training.resume.checkpoint import Checkpoints
from mtlcluster.training.validation import Undefined

NAN = float("nan")
SETTINGS = {"epochs": 3, "batch_size": 4, "scheduler": {"name": "constant", "warmup": 0}}


def squared(outputs, targets):
    return F.mse_loss(outputs.flatten(), targets)


def data(labels, seed=0):
    """Samples with labels by task."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {task: torch.tensor(values) for task, values in labels.items()}
    return TensorData(torch.randn(len(next(iter(labels.values()))), 3, generator=generator), tensors)


def problem(tasks, training, validation, test=None):
    heads = {task.name: nn.Linear(4, task.classes if task.kind == "classification" else 1) for task in tasks}
    model = MultiTaskModel(nn.Linear(3, 4), heads)
    return Problem(model, tasks, data(training), data(validation, 1), test and data(test, 2))


CLASSES = Task.classification("a", 2, missing=-1, class_weights=(1, 3))
NUMBERS = Task.regression("b")
TRAINING = {"a": [0, 0, 0, 1, -1, -1], "b": [1.0, 1.0, 1.0, 5.0, 5.0, 5.0]}
VALIDATION = {"a": [0, 1, 0, -1], "b": [3.0, 4.0, 5.0, 6.0]}


def values(history, name, part="validation"):
    return history["series"][f"{part}/{name}"]["value"]


def test_it_is_the_mean_over_tasks_of_the_loss_over_that_of_a_constant_output(tmp_path):
    """By hand. a: the weights make both classes of the training data equal, so the logits are 0, and the loss on the
    validation labels is (1 + 3 + 1) / 3 · log 2. b: the mean is 3, and the loss (0 + 1 + 4 + 9) / 4.
    """
    test = {"a": [1, 1, 1], "b": [3.0, 3.0, 5.0]}
    found = train(lambda: problem([CLASSES, NUMBERS], TRAINING, VALIDATION, test), SETTINGS, tmp_path)
    a, b = 5 / 3 * math.log(2), 14 / 4
    relative_to = found["info"]["relative_to"]
    assert {task: entry["how"] for task, entry in relative_to.items()} == dict.fromkeys("ab", "closed form")
    assert [entry["validation"] for entry in relative_to.values()] == pytest.approx([a, b], rel=1e-6)
    expected = (values(found, "a/loss") / a + values(found, "b/loss") / b) / 2
    assert values(found, "relative_loss") == pytest.approx(expected, rel=1e-6)
    expected = (values(found, "a/loss", "test") / (3 * math.log(2)) + values(found, "b/loss", "test") / (4 / 3)) / 2
    assert values(found, "relative_loss", "test") == pytest.approx(expected, rel=1e-6)


def test_it_chooses_the_checkpoint_by_default(tmp_path):
    found = tiny(tmp_path, epochs=6)
    best, relative = found["info"]["best"], values(found, "relative_loss")
    assert (best["value"], best["direction"]) == ("relative_loss", "min")
    assert best["epoch"] == relative.argmin() + 1
    assert best["number"] == relative.min()


def test_a_task_without_validation_labels_is_left_out_and_a_single_task_is_alone(tmp_path):
    unlabelled = {**VALIDATION, "a": [-1, -1, -1, -1]}
    found = train(lambda: problem([CLASSES, NUMBERS], TRAINING, unlabelled), SETTINGS, tmp_path / "left out")
    assert list(found["info"]["relative_to"]) == ["b"]
    assert values(found, "relative_loss") == pytest.approx(values(found, "b/loss") / 3.5, rel=1e-6)
    single = SETTINGS | {"method": {"schedule": {"name": "single", "task": "b"}}}
    found = train(lambda: problem([CLASSES, NUMBERS], TRAINING, VALIDATION), single, tmp_path / "single")
    assert list(found["info"]["relative_to"]) == ["b"]


def test_a_loss_of_ones_own_is_relative_to_the_constant_that_is_found_by_optimization(tmp_path):
    own = Task("b", squared, "regression")
    found = train(lambda: problem([CLASSES, own], TRAINING, VALIDATION), SETTINGS, tmp_path)
    entry = found["info"]["relative_to"]["b"]
    assert entry["how"] == "L-BFGS"
    assert entry["validation"] == pytest.approx(3.5, rel=1e-6)
    assert entry["output"] == pytest.approx([3.0], rel=1e-6)


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        (Task("b", lambda out, t: squared(out, t) - 1000 + 1000 * out.std(correction=0).sign(), "regression"), {},
         "the best constant output has a loss of -99"),
        (replace(NUMBERS, missing=NAN), {"b": [NAN] * 6}, "no constant output was found (no training label was seen)"),
        (NUMBERS, {"b": [3.0] * 6}, "the best constant output has a loss of 0 on the validation data"),
    ],
)  # fmt: skip
def test_without_a_usable_constant_the_first_validation_stands_for_it_and_a_note_says_so(task, labels, words, tmp_path):
    validation = {"a": VALIDATION["a"], "b": [3.0] * 4 if "loss of 0" in words else VALIDATION["b"]}
    noted = Noted()
    found = train(lambda: problem([CLASSES, task], TRAINING | labels, validation), SETTINGS, tmp_path, noted)
    first = values(found, "b/loss")[0]
    assert found["info"]["relative_to"]["b"] == {"validation": first, "how": "first validation"}
    [note] = [note for note in noted.notes if note.startswith("relative_loss")]
    assert note.startswith("relative_loss: the loss of task 'b' is relative to that of the first validation (")
    assert words in note


class Noted:
    notes = ()

    def should_stop(self):
        return False

    def report(self, event, **values):
        self.notes = list(values["notes"])


def test_a_loss_that_is_negative_at_once_needs_another_value(tmp_path):
    task = Task("b", lambda out, t: out.mean() - 1000, "regression")
    with pytest.raises(Undefined, match=r"the loss of task 'b' was -.* at the first validation.*such as mean_loss"):
        train(lambda: problem([CLASSES, task], TRAINING, VALIDATION), SETTINGS, tmp_path / "default")
    settings = SETTINGS | {"best": {"value": "mean_loss"}}
    assert train(lambda: problem([CLASSES, task], TRAINING, VALIDATION), settings, tmp_path / "other")


def test_the_mean_loss_can_be_chosen_and_one_note_names_the_task_that_is_most_of_it(tmp_path):
    noted = Noted()
    history = tiny(tmp_path, noted, best={"value": "mean_loss"})
    share = values(history, "c/loss")[0] / values(history, "mean_loss")[0] / 3
    [note] = [note for note in noted.notes if note.startswith("best")]
    assert f"mean_loss is mostly the loss of task 'c' ({share:.0%} at the first validation)" in note
    noted = Noted()
    tiny(tmp_path / "single", noted, best={"value": "mean_loss"}, method={"schedule": {"name": "single", "task": "c"}})
    assert not [note for note in noted.notes if note.startswith("best")]


@pytest.mark.parametrize("period", [13, 17])  # in the first epoch of 10 steps, and in its validation
@pytest.mark.parametrize("own", [False, True])
def test_interrupted_in_the_first_epoch_or_validation_it_is_the_same(own, period, tmp_path):
    settings = {"epochs": 2, "data": {"metrics": not own, "noisy": True}}
    whole = tiny(tmp_path / "whole", **settings)
    again, stops = tiny_with_stops(tmp_path / "stopped", period, **settings)
    assert stops
    assert_same(whole["series"], again["series"])
    assert whole["info"]["relative_to"] == again["info"]["relative_to"]


class StopAt:
    """Asks for a stop at one question."""

    def __init__(self, number):
        self.left = number

    def should_stop(self):
        self.left -= 1
        return self.left == 0

    def report(self, event, **values): ...


@pytest.mark.parametrize("number", [1, 5, 10, 11, 15])
def test_every_label_counts_once_after_a_stop(number, tmp_path):
    settings = {"epochs": 1, "data": {"metrics": False}}
    whole = tiny(tmp_path / "whole", **settings)
    with pytest.raises(StopRequested):
        tiny(tmp_path / "stopped", StopAt(number), **settings)
    again = tiny(tmp_path / "stopped", **settings)
    assert whole["info"]["relative_to"] == again["info"]["relative_to"]
    assert_same(whole["series"], again["series"])


def test_with_fewer_ranks_than_before_every_label_still_counts_once():
    """Two ranks have kept a part of the labels each, and one goes on alone."""
    targets = data(TRAINING).targets
    tasks = [CLASSES, Task("b", squared, "regression")]
    parts = [RelativeLoss(tasks, 1, torch.device("cpu"), ALONE) for _ in range(2)]
    for part, rows in zip(parts, (slice(0, 2), slice(2, 6)), strict=True):
        part.keep({name: labels[rows] for name, labels in targets.items()})
    state = parts[0].state_dict()
    state["labels"] += parts[1].state_dict()["labels"]
    alone = RelativeLoss(tasks, 1, torch.device("cpu"), ALONE)
    alone.load_state_dict(state)
    alone.fit(lambda: {"a": [2], "b": [1]})
    assert alone.outputs["b"].item() == pytest.approx(3)
    assert alone.outputs["a"].softmax(0).tolist() == pytest.approx([0.5, 0.5])


def test_a_checkpoint_of_a_version_without_it_goes_on_without_it(tmp_path):
    settings = {"epochs": 2, "data": {"metrics": False}, "best": {"value": "mean_loss"}}
    with pytest.raises(StopRequested):
        tiny(tmp_path, StopAt(5), **settings)
    state, _ = Checkpoints(tmp_path / "checkpoints").newest()
    del state["relative_loss"]
    Checkpoints(tmp_path / "checkpoints").save(state["step"], state)
    history = tiny(tmp_path, **settings)
    assert not [name for name in history["series"] if "relative_loss" in name]
    assert history["info"]["best"]["value"] == "mean_loss"
