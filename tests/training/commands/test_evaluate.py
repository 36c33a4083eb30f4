"""`mtlcluster evaluate`: the predictions of a run's best checkpoint, sample by sample."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rig.tiny_runs import PROJECT

from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.sweep.history import read_history
from mtlcluster.training.commands.evaluate import main
from mtlcluster.training.resume.checkpoint import Checkpoints
from mtlcluster.training.train import load_run, train

JOB = """
import torch
from tiny import Data, Model, Problem, Task, build as build_tiny

def build(data: dict) -> Problem:
    problem = build_tiny(Data(), Model())
    problem.tasks[1] = Task.binary("b", missing=-1, threshold=None)
    for part in (problem.train, problem.validation, problem.test):
        part.targets["b"][::7] = -1
        part.ids = [f"clip {i}" for i in range(len(part))]
        part.lengths = torch.arange(len(part)) * 37 % 11
    if data.get("untested"):
        problem.test = None
    return problem
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run, with ids, batches by length, and labels missing in every task."""
    root = tmp_path_factory.mktemp("evaluate")
    (root / "jobs").mkdir()
    (root / "jobs" / "tiny.py").write_text((PROJECT / "jobs" / "tiny.py").read_text())
    (root / "jobs" / "clips.py").write_text(JOB)
    folder = root / "trained" / "clips"
    folder.mkdir(parents=True)
    settings = {"job": "clips", "epochs": 3, "batch_size": 16, "optimizer": {"lr": 0.01}}
    (folder / "config.yaml").write_text(dump(settings))
    config, build = load_run(folder)
    train(build, config, folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_test_data_give_the_very_values_of_the_history_and_a_row_for_each_sample(run, tmp_path):
    found = main(run, "test", tmp_path / "test.csv")
    history = read_history(run / "history.pkl")
    series, best = history["series"], history["info"]["best"]
    expected = {name: s["value"][0] for name, s in series.items() if name.startswith("test/")}
    assert found.series("test").keys() == expected.keys()
    for name, value in found.series("test").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)  # bit for bit

    rows = rows_of(tmp_path / "test.csv")
    problem = load_run(run)[1]()
    problem.model.load_state_dict(Checkpoints(run / "checkpoints").load_best(best["step"])["model"])
    inputs, targets = problem.test[slice(None)]
    with torch.no_grad():
        outputs = problem.model.eval()(inputs, ["a", "b", "c"])
    assert [row["id"] for row in rows] == problem.test.ids
    for row, a, b, c, label in zip(rows, outputs["a"], outputs["b"], outputs["c"], targets["a"].tolist(), strict=True):
        probability = torch.sigmoid(b).item()
        assert float(row["b/probability"]) == pytest.approx(probability, rel=1e-5)
        assert row["b/decision"] == str(int(probability > best["thresholds"]["b"]))
        assert row["a/prediction"] == str(a.argmax().item())
        assert [float(row[f"a/probability_{k}"]) for k in range(3)] == pytest.approx(a.softmax(0).tolist(), rel=1e-4)
        assert float(row["c/prediction"]) == pytest.approx(c.item(), rel=1e-4)
        assert row["a/label"] == ("" if label == -1 else str(label))
    assert {row["b/label"] for row in rows[::7]} == {""}
    assert {row["b/label"] for i, row in enumerate(rows) if i % 7} == {"0", "1"}
    known = [row for row in rows if row["b/label"]]
    accuracy = sum(row["b/label"] == row["b/decision"] for row in known) / len(known)
    assert accuracy == pytest.approx(expected["test/b/accuracy"])


def test_from_the_command_line_on_validation_data(run):
    call = [sys.executable, "-m", "mtlcluster", "evaluate", str(run), "--split", "validation"]
    done = subprocess.run(call, cwd=run.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(run / "predictions-validation.csv")) == 60
    history = read_history(run / "history.pkl")
    best = history["info"]["best"]
    f1 = history["series"]["validation/b/f1"]["value"][best["epoch"] - 1]
    assert f"mean_f1 {f1:.4g}, " in done.stdout
    assert f"60 predictions: {run / 'predictions-validation.csv'}" in done.stdout


def test_what_cannot_be_evaluated_is_said(run, tmp_path):
    with pytest.raises(UserError, match="is not a folder to write"):
        main(run, "test", tmp_path / "nowhere" / "test.csv")
    early = run.parent / "early"
    early.mkdir()
    (early / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    with pytest.raises(UserError, match="early has no best checkpoint yet"):
        main(early, "test", tmp_path / "test.csv")
    (early / "history.pkl").write_bytes((run / "history.pkl").read_bytes())
    (early / "checkpoints").mkdir()
    for path in (run / "checkpoints").glob("*best-*"):
        (early / "checkpoints" / path.name).write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"best-\d+\.pt is torn or corrupt"):
        main(early, "test", tmp_path / "test.csv")
    (early / "config.yaml").write_text((run / "config.yaml").read_text() + "data: {untested: true}\n")
    with pytest.raises(UserError, match=r"the job of early has no test data \(known: train, validation\)"):
        main(early, "test", tmp_path / "test.csv")
    assert not (tmp_path / "test.csv").exists()


def test_what_the_predictions_of_dense_tasks_leave_out_is_said(tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "dense_job.py").write_text((PROJECT.parent / "dense_job.py").read_text())
    folder = tmp_path / "trained" / "dense"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump({"job": "dense_job", "epochs": 1, "batch_size": 4}))
    config, build = load_run(folder)
    train(build, config, folder)
    main(folder, "validation", tmp_path / "found.csv")
    assert "without the predictions of dense tasks (classes, depth, normals, edge): they" in capsys.readouterr().out
    assert not {"classes", "edge"} & {key.split("/")[0] for key in rows_of(tmp_path / "found.csv")[0]}
