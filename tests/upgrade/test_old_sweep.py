"""A sweep of an earlier commit under today's code: read, retried, evaluated, replayed, collected, submitted again.

make_old_sweep.py made it and describes it. Its runs keep the code of that commit, whose modules have other names.
"""

import csv
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from rig.slurm_cluster import wait_for
from upgrade.make_old_sweep import ARCHIVE, FOLDER, SAME_EVERYWHERE, STATES, machine

from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.status import Status, read_status


class OldSweep:
    """The sweep, unpacked, and today's command line in its project."""

    def __init__(self, folder: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        self.project, self.expected = folder / "project", folder / "expected"
        self.sweep = self.project / "runs" / "old"
        about = json.loads((folder / "about.json").read_text())
        self.commit = about.pop("commit")
        self.is_same_machine = about == machine()

    def __call__(self, *words: str) -> str:
        command = [sys.executable, "-m", "mtlcluster", *words]
        done = subprocess.run(command, cwd=self.project, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, state: str) -> Path:
        [folder] = self.sweep.glob(f"seed={STATES[state]}-*")
        return folder

    def status(self, state: str) -> Status:
        status = read_status(self.run(state) / "status.json")
        assert status is not None
        return status

    def wait(self, state: str, *states: str, submission: str) -> Status:
        """The status of the run in `state`, after it has ended in one of `states` as part of that submission."""

        def reached() -> bool:
            status = self.status(state)
            return status.submission == submission and status.state in (*states, "failed", "done")

        wait_for(reached, f"{self.run(state).name} to end", seconds=150)
        assert self.status(state).state in states, self.status(state)
        return self.status(state)

    def code_of(self, state: str) -> str:
        """The name of the snapshot that the run is trained with."""
        [line] = [line for line in (self.run(state) / "config.yaml").read_text().splitlines() if "  code: " in line]
        return line.split()[1]

    def codes(self) -> set[str]:
        """The names of the snapshots that the sweep holds."""
        return {folder.name for folder in (self.sweep / "code").iterdir()}

    def bring_project(self) -> None:
        """Makes the sweep's project lie where the sweep says."""
        grid = self.sweep / "sweep.yaml"
        grid.write_text(grid.read_text().replace(str(FOLDER), str(self.project.parent)))

    def assert_as_undisturbed(self, state: str) -> None:
        """The history equals that of the same run when nothing stops it; on another machine, but for rounding."""
        run = self.run(state)
        found, expected = read_history(run / "history.pkl"), read_history(self.expected / f"{run.name}.pkl")
        assert found["series"].keys() == expected["series"].keys()
        for name, columns in expected["series"].items():
            assert found["series"][name].keys() == columns.keys()
            for column, values in columns.items():
                compare = np.testing.assert_array_equal if self.is_same_machine else np.testing.assert_allclose
                tolerance = {} if self.is_same_machine else {"rtol": 1e-3}
                compare(found["series"][name][column], values, **tolerance, err_msg=f"{run.name}: {name}")


@pytest.fixture
def old(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldSweep:
    for variable, value in SAME_EVERYWHERE.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "old").mkdir()
    return OldSweep(tmp_path / "old")


def test_its_states_are_read(old):
    runs = {run["run"]: run for run in json.loads(old("status", "old", "--json"))["runs"]}
    assert {name: run["state"] for name, run in runs.items()} == {
        old.run(state).name: state.removesuffix(" on Slurm") for state in STATES
    }
    assert runs[old.run("failed").name]["error"].startswith("step 2: the loss of task")
    assert runs[old.run("cancelled").name]["epoch"] == 1


def test_retried_on_this_machine_its_runs_end_as_if_left_alone(old):
    """One goes on from the middle of an epoch. The other had saved nothing; without the project it keeps its code."""
    codes = old.codes()
    old("retry", "old", old.run("cancelled").name, old.run("lost").name, "--yes")
    assert old.wait("cancelled", "done", submission="0005").attempt == 2
    assert old.wait("lost", "done", submission="0005").attempt == 2
    old.assert_as_undisturbed("cancelled")
    old.assert_as_undisturbed("lost")
    assert len(read_history(old.run("cancelled") / "history.pkl")["info"]["attempts"]) == 2
    old("collect", "old")
    with open(old.sweep / "report" / "tables" / "runs.csv") as file:
        collected = {row["run"] for row in csv.DictReader(file)}
    assert collected == {old.run(state).name for state in ("done", "cancelled", "lost")}
    assert old.codes() == codes


def test_retried_on_slurm_it_ends_as_if_left_alone(old, slurm):
    old("retry", "old", old.run("cancelled on Slurm").name, "--yes")
    status = old.wait("cancelled on Slurm", "done", submission="0005")
    assert (status.attempt, status.job_id.startswith("local:")) == (2, False)
    old.assert_as_undisturbed("cancelled on Slurm")
    assert len(read_history(old.run("cancelled on Slurm") / "history.pkl")["info"]["attempts"]) == 2


def test_todays_code_goes_on_from_its_checkpoint_as_the_old_code_would(old, monkeypatch):
    """A run keeps its code; but `train` on a run's folder uses today's."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = old.run("cancelled")
    (run / "history.pkl").unlink()
    program = (
        "import sys; from pathlib import Path; from mtlcluster.training.train import load_run, train; "
        "config, build = load_run(Path(sys.argv[1])); train(build, config, Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(run)], cwd=old.project, check=True)
    old.assert_as_undisturbed("cancelled")
    assert len(read_history(run / "history.pkl")["info"]["attempts"]) == 2


def test_its_best_checkpoint_is_evaluated(old, tmp_path):
    old("evaluate", f"old/{old.run('done').name}", "--out", str(tmp_path / "predictions.csv"), "--yes")
    found, expected = (path / "predictions.csv" for path in (tmp_path, old.expected))
    if old.is_same_machine:
        assert found.read_text() == expected.read_text()
    assert len(found.read_text().splitlines()) == len(expected.read_text().splitlines())


def test_its_failed_step_is_replayed(old):
    said = old("replay", f"old/{old.run('failed').name}", "--yes")
    assert "step 2: the loss of task 'a', 'b', 'c' is nan" in said
    assert "trunk.4" in said


def test_its_grid_submitted_again_adds_nothing_and_what_saved_nothing_takes_todays_code(old):
    old.bring_project()
    before = old.code_of("failed")
    assert "5 of 5 runs are already there" in old("submit", "old.yaml", "--cluster", "local", "--yes")
    old("retry", "old", old.run("failed").name)
    status = old.wait("failed", "failed", submission="0005")
    assert status.error.startswith("step 2: the loss of task"), status.error
    assert old.code_of("failed") != before
    assert len(old.codes()) == 2
