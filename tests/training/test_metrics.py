"""A value that the labels of a validation do not allow is NaN with a note; only where it decides is it refused."""

import importlib.util
import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import nn
from torch.utils.data import Dataset, Subset
from torchmetrics import Metric, PearsonCorrCoef, R2Score
from torchmetrics.classification import BinaryAUROC, BinaryF1Score, MulticlassAUROC

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.cli import app
from mtlcluster.launch.status_table import remark
from mtlcluster.sweep.status import UNDEFINED
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.metrics import MetricError
from mtlcluster.training.validation import Undefined

NAN = float("nan")


class Own(Metric):
    """A user's own metric, which does in `compute` (or `update`) what it is told to."""

    higher_is_better = True
    full_state_update = False

    def __init__(self, does, when="compute"):
        super().__init__()
        self.does, self.when = does, when

    def update(self, outputs, targets):
        if self.when == "update":
            self.does()

    def compute(self):
        return self.does()


def fails(error):
    def fail():
        raise error

    return fail


calls = itertools.count(1)


def said_anew():
    raise ValueError(f"call {next(calls)}")


class Pearson(PearsonCorrCoef):
    higher_is_better = True


class OneByOne(Dataset):
    """The same data, but its labels can't be seen before they are read."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]


class Told(Callbacks):
    def __init__(self):
        self.notes, self.events = [], []

    def report(self, event, **values):
        self.notes, self.events = list(values["notes"]), [*self.events, event]


def squared(outputs, targets):
    return F.mse_loss(outputs.flatten(), targets)


def flat(outputs):
    return outputs.flatten()


def regression(metric):
    return Task("a", squared, "regression", {"m": metric}, flat, missing=NAN)


def three_classes(metric):
    return Task("a", F.cross_entropy, "classification", {"m": metric}, missing=-1)


def binary(metric):
    return Task("a", Task.binary("x").loss, "binary", {"m": metric}, torch.sigmoid, missing=-1)


REAL, CLASSES = torch.linspace(-1, 1, 12), torch.arange(12) % 3
# What is measured, the labels of the training and of the validation data, and what the note says.
KINDS = {
    "r2 of one": (lambda: regression(R2Score()), REAL, [1.0] + [NAN] * 11, "at least two samples .*one label, 1"),
    "pearson of one": (lambda: regression(Pearson()), REAL, [1.0] + [NAN] * 11, "it gives nan .one label"),
    "pearson, constant": (lambda: regression(Pearson()), REAL, [2.0] * 12, "it gives nan .all 12 labels are 2"),
    "area, one class": (lambda: three_classes(MulticlassAUROC(3)), CLASSES, [1] * 12, "no .* samples in targets"),
    "area, a class short": (lambda: three_classes(MulticlassAUROC(3)), CLASSES, [0, 1] * 6, "no positive samples"),
    "area, no yes": (lambda: binary(BinaryAUROC()), CLASSES % 2, [0] * 12, "none of 12 labels is yes"),
    "area, no no": (lambda: binary(BinaryAUROC()), CLASSES % 2, [1] * 11 + [-1], "none of 11 labels is no"),
    "f1, no yes": (lambda: binary(BinaryF1Score()), CLASSES % 2, [0] * 12, "none of 12 labels is yes"),
    "own": (lambda: regression(Own(fails(ValueError("only one class")))), REAL, REAL, "only one class"),
    "own, nothing": (lambda: regression(Own(lambda: 1 / 0)), REAL, REAL, "division by zero"),
    "own, of numpy": (lambda: regression(Own(lambda: np.float64("nan"))), REAL, REAL, "it gives nan"),
    "own, in other words": (lambda: regression(Own(said_anew)), REAL, REAL, "call 2"),
    "no label": (lambda: regression(R2Score()), REAL, [NAN] * 12, "task 'a' has no value: no sample has a label"),
}  # fmt: skip


def problem(kind, hidden=True):
    task, seen, labels, _ = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    made, x = task(), torch.randn(12, 4, generator=generator)

    def data(labels):
        given = torch.as_tensor(labels)
        of_a = given.float() if made.kind == "regression" else given.long()
        found = TensorData(x, {"a": of_a, "b": x.sum(1)})
        return OneByOne(found) if hidden else found

    heads = {"a": nn.Linear(4, 3 if made.kind == "classification" else 1), "b": nn.Linear(4, 1)}
    if made.kind == "binary":
        heads["a"] = nn.Sequential(heads["a"], nn.Flatten(0))
    return Problem(MultiTaskModel(nn.Linear(4, 4), heads), [made, Task("b", squared, "regression")], data(seen),
                   data(labels))  # fmt: skip


SETTINGS = {"epochs": 3, "batch_size": 4}
DECIDES = {"best": {"value": "a/m", "direction": "max"}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_goes_on_with_nan_and_one_note(kind, tmp_path):
    told = Told()
    history = train(lambda: problem(kind), SETTINGS, tmp_path, told)
    assert [math.isnan(value) for value in history["series"]["validation/a/m"]["value"]] == [True] * 3
    assert np.isfinite(history["series"]["validation/mean_loss"]["value"]).all()
    [note] = told.notes
    assert note.startswith("validation: ")
    assert "task 'a'" in note
    assert re.search(KINDS[kind][3], note)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", ["r2 of one", "area, one class", "area, no yes", "own", "no label"])
def test_where_it_decides_it_is_refused_before_the_start_or_at_the_first_validation(kind, hidden, tmp_path):
    told = Told()
    with pytest.raises(Undefined, match=r"best: the validation data allow no 'a/m': .*such as mean_loss") as error:
        train(lambda: problem(kind, hidden), {**SETTINGS, **DECIDES}, tmp_path, told)
    assert ("started" in told.events) is hidden
    assert "learning rate" not in str(error.value)
    assert not list(tmp_path.rglob("*.pt"))


def test_labels_of_a_part_of_tensors_lie_open_too(tmp_path):
    def part():
        made = problem("r2 of one", False)
        made.validation = Subset(made.validation, [0, 3, 4])
        return made

    told = Told()
    with pytest.raises(Undefined, match="allow no 'a/m'"):
        train(part, {**SETTINGS, **DECIDES}, tmp_path, told)
    assert not told.events


def test_a_loss_that_no_label_allows_decides_nothing(tmp_path):
    with pytest.raises(Undefined, match="allow no 'a/loss': no sample has a label"):
        train(lambda: problem("no label", False), {**SETTINGS, "best": {"value": "a/loss"}}, tmp_path)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (lambda: Own(fails(TypeError("no such thing"))), "metric 'm' of task 'a': TypeError: no such thing"),
        (lambda: Own(fails(ValueError("shapes")), "update"), "metric 'm' of task 'a': ValueError: shapes"),
        (lambda: Own(lambda: torch.ones(3)), "metric 'm' of task 'a': it gives 3 values, where one number"),
        (lambda: MulticlassAUROC(3), "metric 'm' of task 'a': "),
    ],
)
def test_a_mistake_in_a_metric_is_none_of_the_labels(metric, words, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "mistaken", (lambda: regression(metric()), REAL, REAL, ""))
    with pytest.raises(MetricError, match=words):
        train(lambda: problem("mistaken"), SETTINGS, tmp_path)


class SumsToOne(Own):
    """As some of scikit-learn's, which refuse what is no probability."""

    def __init__(self):
        super().__init__(None)
        self.add_state("wrong", torch.tensor(0.0))

    def update(self, outputs, targets):
        self.wrong += (outputs.sum(1) - 1).abs().max()

    def compute(self):
        if self.wrong > 1e-4:
            raise ValueError("scores should sum to one")
        return torch.tensor(0.5)


def test_what_the_labels_allow_is_not_refused(tmp_path, monkeypatch):
    """Neither for what is made up in place of outputs nor for a model whose outputs are constant at first."""
    softmax = Task("a", F.cross_entropy, "classification", {"m": SumsToOne()}, lambda o: o.softmax(1), missing=-1)
    monkeypatch.setitem(KINDS, "softmax", (lambda: softmax, CLASSES, CLASSES, ""))
    assert train(lambda: problem("softmax", False), {**SETTINGS, **DECIDES}, tmp_path / "1")["info"]["finished"]

    def constant():
        made = problem("pearson", False)
        nn.init.zeros_(made.model.heads["a"].weight)
        return made

    monkeypatch.setitem(KINDS, "pearson", (lambda: regression(Pearson()), REAL, REAL.flip(0), ""))
    assert train(constant, {**SETTINGS, **DECIDES}, tmp_path / "2")["info"]["finished"]


@pytest.mark.long
def test_status_has_the_note_and_the_report_is_made(project, make_grid, submit_locally):
    job = (project / "jobs" / "tiny.py").read_text()
    (project / "jobs" / "tiny.py").write_text(job.replace(
        "    return Problem(", "    validation = make(60, 2)\n    validation.targets['c'][1:] = float('nan')\n"
        "    return Problem(").replace("else make(60, 2)", "else validation"))  # fmt: skip
    sweep = submit_locally(make_grid(set={"data.metrics": True, "epochs": 3}, grid={"seed": [0]}))
    assert sweep.wait("", "done", seconds=120).notes == [
        "validation: r2 of task 'c' is undefined: Needs at least two samples to calculate r2 score. (one label, "
        f"{float(sweep_label(project)):g})"
    ]
    result = CliRunner().invoke(app, ["collect", "sweep", "--runs", str(project / "runs")])
    assert result.exit_code == 0, result.output


def sweep_label(project):
    spec = importlib.util.spec_from_file_location("tiny_here", project / "jobs" / "tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make(60, 2).targets["c"][0]


def test_the_table_tells_of_a_finished_run_what_is_undefined_and_nothing_else():
    note = f"validation: r2 of task 'c'{UNDEFINED}one label"
    told = dict.fromkeys(("verified", "cancelling"))
    for notes, shown in [([note, "resumed"], note), (["resumed"], "")]:
        run = SimpleNamespace(state="done", error="", notes=notes, **told)
        assert remark(run) == shown
