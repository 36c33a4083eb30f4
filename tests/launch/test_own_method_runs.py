"""A user's own method through the commands, with real training: each run uses the file as it was at its submission."""

import re
from pathlib import Path

import pytest
import yaml

from mtlcluster.collect.read_histories import read_histories
from mtlcluster.collect.run_list import list_runs
from mtlcluster.config.run import read_run_config, run_hash
from mtlcluster.errors import UserError
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.preflight import check
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_module import run_module
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.history import read_history
from mtlcluster.training.commands.terminal import train_file
from mtlcluster.training.train import load_build, load_run, train

SOURCE = """
from mtlcluster import weighting

@weighting
class Shrinks:
    def __init__(self, context, *, share: float = 0.25):
        self.share = share
    def forward(self, losses, active):
        return self.share * losses.sum()
"""
CHANGED = SOURCE.replace("self.share * losses", "2 * self.share * losses")  # not the default: config.yaml has that


@pytest.fixture
def own(project):
    (project / "methods").mkdir()
    (project / "methods/mine.py").write_text(SOURCE)
    return project / "methods/mine.py"


def weights(history):
    return set(history["series"]["weight/a"]["value"])


@pytest.mark.timeout(240)
def test_a_run_uses_the_file_as_it_was_at_its_submission(project, own, make_grid, submit_locally, capfd):
    grid = make_grid(grid={"method": ["methods/mine.py:Shrinks"]}, set={"epochs": 1, "batch_size": 75})
    [planned] = grid.runs
    assert planned.name in preview(grid, project / "runs", "local")
    check(grid, print)
    sweep = submit_locally(grid)
    own.write_text(CHANGED)
    sweep.wait("Shrinks", "done", "failed", seconds=90)
    [run] = sweep.sweep.runs()
    assert sweep.status().state == "done", sweep.log()
    assert weights(read_history(run.history)) == {0.25}
    assert yaml.safe_load(run.config.read_text())["method"]["weighting"]["name"] == "own_methods/mine.py:Shrinks"
    assert (sweep.sweep.folder / "code" / read_run_config(run.config).origin.code / "own_methods/mine.py").is_file()
    assert str(project) not in yaml.safe_dump(yaml.safe_load(run.config.read_text())["origin"])
    assert run.name == planned.name
    assert run_hash(load_run(run.folder)[0]) == planned.hash
    [finished], _ = read_histories(list_runs(sweep.sweep), lambda: None)
    assert finished.method == "Shrinks"
    assert run_module("evaluate", run.folder, "--split", "test") == 0, capfd.readouterr().err
    assert submit(grid, project / "runs", "local", print).left == {"done": [run.name]}

    own.write_text(SOURCE.replace("Shrinks", "Grows"))  # gone: nothing of the run may be lost
    with pytest.raises(UserError, match=r"mine.py: defines no class 'Shrinks'"):
        resubmit(sweep.sweep, [run.name], restart=True, say=print)
    assert run.history.exists()
    own.write_text(CHANGED)
    resubmit(sweep.sweep, [run.name], restart=True, say=print)
    sweep.wait("Shrinks", "queued", "running", seconds=30)
    sweep.wait("Shrinks", "done", "failed", seconds=90)
    assert weights(read_history(run.history)) == {0.5}


def test_a_lone_run_takes_the_file_from_where_it_is(project, own, monkeypatch):
    settings = {"epochs": 1, "batch_size": 75, "data": {"metrics": False}}
    path = _written(project / "run.yaml", {"job": "tiny", "method": "methods/mine.py:Shrinks", **settings})
    folder = project / "out"
    assert train_file(path, folder) == 0
    assert weights(read_history(folder / "history.pkl")) == {0.25}
    _, build = load_run(folder)  # what replay and evaluate begin with
    monkeypatch.chdir(project / "methods")
    again = train(build, {**settings, "method": "mine.py:Shrinks"}, project / "python")
    assert weights(again) == {0.25}


def test_the_readmes_own_method_trains(project, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    [text] = re.findall(r"```python\n(from mtlcluster import Active, Context, Gradient\n.*?)```", readme, re.DOTALL)
    (project / "my_method.py").write_text(text)
    [line] = re.findall(r"^  (method: \[equal, my_method.*)$", readme, re.MULTILINE)
    settings = {"epochs": 1, "batch_size": 75, "data": {"metrics": False}}
    config = read_run_config(_written(project / "run.yaml", {"job": "tiny", **settings}))
    build = load_build("jobs/tiny.py:build", project, config)
    monkeypatch.chdir(project)
    losses = [
        tuple(train(build, {**settings, "method": method}, project / f"out{i}")["series"]["train/total_loss"]["value"])
        for i, method in enumerate(yaml.safe_load(line)["method"])
    ]
    assert len(set(losses)) == 3  # each trains otherwise


def _written(path, values):
    path.write_text(yaml.safe_dump(values))
    return path
