"""Folders in a sweep that are no runs: those of file systems, of snapshots and of the user, and copies of runs."""

import json
import shutil

import pytest
from click.testing import CliRunner
from rig.handmade import add_runs, at_epoch, new_sweep

from mtlcluster.cli import app
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.run_folders import sort
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.folder import Sweep

STRANGERS = ["lost+found", ".snapshot", ".Trash-1000", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume",
             "tmp", "old", "plots", "wandb", "__pycache__", "0123456789abcdef", "backup-2024", "backup-2024112609",
             "notes-deadbeef", "x²", "\n"]  # fmt: skip
COPIES = ["{} (copy)", "{} (1)", "{}.bak", "{}.old", "{}~", "{}-copy", "{}_2", "{} - Kopie", "Copy of {}", "old-{}",
          "backup_{}", "{}.2024-11-26", "0-{}"]  # fmt: skip


@pytest.fixture
def sweep(project, make_grid):
    """Two runs: one has a job, one was never submitted."""
    grid = make_grid(grid={"seed": [0, 1]}, cluster="local")
    sweep = Sweep(project / "runs" / "sweep")
    submitted = submit(make_grid(grid={"seed": [0]}, cluster="local"), project / "runs", None, print)
    assert submitted.sweep.folder == sweep.folder
    return sweep, grid


@pytest.mark.usefixtures("fake_child")
def test_a_strangers_folder_is_no_run(sweep, project):
    sweep, grid = sweep
    [run] = sweep.runs()
    for name in STRANGERS:
        (sweep.folder / name).mkdir()
        (sweep.folder / name / "figure.png").touch()
    for pattern in COPIES:
        shutil.copytree(run.folder, sweep.folder / pattern.format(run.name))
    assert [found.run for found in observe([sweep])] == [run.name]
    shown = json.loads(CliRunner().invoke(app, ["status", "--json", "--runs", str(project / "runs")]).stdout)
    assert [found["run"] for found in shown["runs"]] == [run.name]
    found = sort(sweep, grid)
    assert (list(found.left), len(found.new), found.unsent, found.interrupted) == ([run.name], 1, {}, {})
    assert "1 of 2 runs to submit, 1 are already there" in preview(grid, project / "runs", "local")
    logs = CliRunner().invoke(app, ["logs", "sweep", "seed", "--runs", str(project / "runs")])
    assert "which run" not in logs.stderr
    assert "could mean" not in logs.stderr


def test_where_no_submission_is_known_one_folder_of_a_run_counts(tmp_path):
    sweep = new_sweep(tmp_path)
    for name in ("seed=0-abcdef0123", "z-seed=0-abcdef0123", "seed=1-0123abcdef"):
        sweep.run(name).folder.mkdir()
    assert [run.name for run in sweep.runs()] == ["seed=0-abcdef0123", "seed=1-0123abcdef"]
    assert len(observe([sweep])) == 2


def test_a_snapshot_of_a_sweep_is_no_sweep_and_runs_with_odd_names_stay(tmp_path):
    sweep = new_sweep(tmp_path)
    add_runs(sweep, "local:elsewhere:1:1", {"by-hand": None, "mine": at_epoch(20, "done")})
    shutil.copytree(sweep.folder, tmp_path / ".snapshot")
    result = CliRunner().invoke(app, ["status", "--json", "--runs", str(tmp_path)])
    assert [(run["sweep"], run["run"]) for run in json.loads(result.stdout)["runs"]] == [
        ("digits", "by-hand"), ("digits", "mine")
    ]  # fmt: skip
