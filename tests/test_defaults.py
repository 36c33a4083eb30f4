"""A changed default changes the identity of new runs, and a sweep keeps the defaults that it has."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mtlcluster import defaults
from mtlcluster.cli import app
from mtlcluster.config.grid import read_grid
from mtlcluster.config.run import Best, Optimizer, RunConfig, read_run_config, run_hash
from mtlcluster.defaults import NEWEST, Changed
from mtlcluster.errors import UserError
from mtlcluster.methods.catalog import catalog, check_method, method_label, sparse_method

REAL = dict(defaults.CHANGED)
JOB = "from mtlcluster import Problem\ndef build(data, model) -> Problem: ...\n"


@pytest.fixture
def changed(monkeypatch):
    """As if AdamW's weight decay had been 0.5 and gradnorm's alpha 9 in version 1."""
    monkeypatch.setitem(defaults.CHANGED, "optimizer", {"weight_decay": Changed(0.5, 2)})
    monkeypatch.setitem(defaults.CHANGED, "weighting.gradnorm", {"alpha": Changed(9.0, 2)})


def config(version: int = NEWEST, **values: object) -> RunConfig:
    return RunConfig.model_validate({"job": "x", **values}, context={"defaults": version})


def before(monkeypatch, make) -> str:
    """The hash that the version before the change gave."""
    with monkeypatch.context() as patched:
        patched.setattr(defaults, "CHANGED", REAL)
        return run_hash(make())


def test_the_old_default_keeps_its_hash_and_the_new_one_has_another(monkeypatch, changed):
    untouched = config(best=Best(value="mean_loss"))
    old = before(monkeypatch, lambda: untouched)
    explicit = config(optimizer={"weight_decay": 0.5}, best=Best(value="mean_loss"))
    assert run_hash(explicit) == old
    assert run_hash(config(best=Best(value="mean_loss"))) != old
    assert run_hash(config(optimizer=Optimizer(weight_decay=0.5, lr=0.1))) != run_hash(explicit)


def test_options_of_methods_likewise(monkeypatch, changed):
    """What was `gradnorm` is now `gradnorm` with alpha 9, and has the same hash."""
    old = before(monkeypatch, lambda: config(method={"weighting": {"name": "gradnorm", "layer": None}}))
    as_before = {"name": "gradnorm", "alpha": 9.0, "layer": None}
    full = check_method({"weighting": as_before})
    assert sparse_method(full) == {"weighting": {"name": "gradnorm"}}
    assert run_hash(config(method={"weighting": as_before}, optimizer={"weight_decay": 0.5})) == old
    today = check_method("gradnorm")
    assert today["weighting"]["alpha"] == 1.5
    assert sparse_method(today) == {"weighting": {"name": "gradnorm", "alpha": 1.5, "layer": "used_last"}}
    assert method_label(today) == method_label(full) == "gradnorm"


def test_an_older_version_fills_in_its_defaults_where_nothing_is_said(changed):
    old = config(version=1, method="gradnorm", optimizer={"lr": 0.1})
    assert (old.optimizer.weight_decay, old.method["weighting"]["alpha"]) == (0.5, 9.0)
    assert config(version=1, optimizer={"weight_decay": 0.01}).optimizer.weight_decay == 0.01
    new = config(method="gradnorm")
    assert (new.optimizer.weight_decay, new.method["weighting"]["alpha"]) == (0.01, 1.5)


def test_config_yaml_of_an_older_run_means_what_it_meant(tmp_path, changed):
    """It lacks an option that was not there yet; a user's own file gets today's default."""
    text = "job: x\nmethod: {weighting: {name: gradnorm}}\n"
    origin = "origin: {sweep: s, code: abc, cluster: local, varied: {}}\n"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text + origin)
    (tmp_path / "own.yaml").write_text(text)
    assert read_run_config(tmp_path / "run" / "config.yaml").method["weighting"]["alpha"] == 9.0
    assert read_run_config(tmp_path / "own.yaml").method["weighting"]["alpha"] == 1.5


@pytest.fixture
def grid(tmp_path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "x.py").write_text(JOB)
    path = tmp_path / "g.yaml"
    path.write_text("name: g\njob: x\ngrid: {method: [equal, gradnorm]}\n")
    return path


def sweep_yaml(folder: Path, **values: object) -> None:
    (folder / "g").mkdir(parents=True)
    (folder / "g" / "sweep.yaml").write_text(yaml.safe_dump({"name": "g", "job": "jobs/x.py:build", **values}))


def test_a_sweep_keeps_the_defaults_that_it_was_submitted_with(tmp_path, grid, changed, monkeypatch):
    assert read_grid(grid, runs_folder=tmp_path / "new").resolved["defaults"] == NEWEST
    sweep_yaml(tmp_path / "old")
    grown = read_grid(grid, runs_folder=tmp_path / "old")
    assert grown.resolved["defaults"] == 1
    assert [run.config.optimizer.weight_decay for run in grown.runs] == [0.5, 0.5]
    expected = [
        before(monkeypatch, lambda method=method: config(1, job="jobs/x.py:build", method=method))
        for method in ("equal", "gradnorm")
    ]
    assert [run.hash for run in grown.runs] == expected
    sweep_yaml(tmp_path / "same", defaults=NEWEST)
    assert [run.config.optimizer.weight_decay for run in read_grid(grid, runs_folder=tmp_path / "same").runs] == [
        0.01,
        0.01,
    ]


def test_submit_says_which_defaults_a_sweep_keeps(tmp_path, grid, changed):
    sweep_yaml(tmp_path / "old")
    done = CliRunner().invoke(
        app, ["submit", str(grid), "--runs", str(tmp_path / "old"), "--dry-run", "--cluster", "local"]
    )
    assert "was submitted under older defaults and keeps them: " in done.output.replace("\n", " ")
    assert "optimizer.weight_decay 0.5" in done.output
    done = CliRunner().invoke(
        app, ["submit", str(grid), "--runs", str(tmp_path / "new"), "--dry-run", "--cluster", "local"]
    )
    assert "older defaults" not in done.output


def test_defaults_of_a_newer_version_are_refused(tmp_path, grid):
    sweep_yaml(tmp_path / "old", defaults=NEWEST + 1)
    with pytest.raises(UserError, match=rf"sweep\.yaml:\d+: defaults should be a version from 1 to {NEWEST}"):
        read_grid(grid, runs_folder=tmp_path / "old")


def test_every_row_names_an_option_whose_default_is_another_one_today():
    """A wrong name in the table would let two results share a hash."""
    for section, options in defaults.CHANGED.items():
        slot, dot, name = section.partition(".")
        for option, row in options.items():
            assert 2 <= row.since <= NEWEST
            names = [m.name for m in catalog() if m.slot == slot and option in m.options.model_fields]
            assert not dot or name in ("*", *names), f"{section} has no option {option}"
            assert names or option in RunConfig(job="x").model_dump()[section]
