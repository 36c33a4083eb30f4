"""Trials that are behind stop by themselves, and can be taken up again bit for bit: real trainings on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rig.search import as_search
from rig.tiny_runs import PROJECT

from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.pruning import is_kept, take_up
from mtlcluster.sweep.status import Status, read_status, write_status
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, read_search, write_search
from mtlcluster.training.train import load_run, train
from mtlcluster.worker.pruning import Pruning
from mtlcluster.worker.status_file import StatusFile

GRID = """
name: s
job: tiny
set: {epochs: 12, batch_size: 16, tasks: [a, b, c]}
grid:
  method: [equal, {weighting: {name: static, draws: 2}}]
  optimizer.lr: {loguniform: [1.0e-6, 1.0e-1]}
tune: {trials: 4, prune: {at: [0.25, 0.5], keep: 0.5}}
confirm: {seeds: 1}
resources: {cpus: 1, memory: 1G, time: 10m}
"""


class Pruned:
    """A finished search with pruned trials, and the command line in its project."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(PROJECT / "jobs", folder / "jobs")
        (folder / "s.yaml").write_text(GRID)
        self.folder, self.sweep = folder, Sweep(folder / "runs" / "s")
        self.environment = dict(os.environ)
        for variable in ("HOME", "TMPDIR"):  # where this machine's other runs do not take the room
            (folder / variable).mkdir()
            self.environment[variable] = str(folder / variable)

    def __call__(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "mtlcluster", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def statuses(self) -> dict[str, Status]:
        return {run.name: read_status(run.status) or Status() for run in self.sweep.runs()}

    def in_state(self, state: str) -> list[Run]:
        return [self.sweep.run(name) for name, status in self.statuses().items() if status.state == state]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory) -> Pruned:
    made = Pruned(tmp_path_factory.mktemp("pruned"))
    made("submit", "s.yaml", "--cluster", "local", "--wait")
    return made


def test_every_decision_can_be_made_again_from_the_files(pruned):
    search = read_search(pruned.sweep.trials)
    assert search is not None
    assert pruned.in_state("pruned")
    for name, status in pruned.statuses().items():
        found = search.trial_of(hash_of(name))
        assert bool(status.rungs) == bool(found and found[0].name == "equal")  # static weights trace the front
        for rung in status.rungs:
            kept = is_kept(rung["value"], rung["seen"].values(), search.prune["keep"], search.direction)
            assert rung["kept"] is kept
            assert rung["step"] >= rung["at"] * status.steps
            for other, value in rung["seen"].items():
                there = next(s for n, s in pruned.statuses().items() if hash_of(n) == other)
                assert value in [r["value"] for r in there.rungs if r["at"] == rung["at"]]
        # A short run may end before it hears that it was to stop.
        stopped = any(not rung["kept"] for rung in status.rungs)
        assert status.state in (("pruned", "done") if stopped else ("done",))


def test_a_pruned_trial_is_no_failure_and_is_not_chosen(pruned):
    said = json.loads(pruned("status", "s", "--json"))["runs"]
    states = [run["state"] for run in said]
    assert {*states} == {"done", "pruned"}
    [choice] = read_choices(pruned.sweep.folder, "equal")
    chosen = next(c for c in choice.candidates if c.trial == choice.trial)
    assert chosen.state == "done"
    assert {c.state for c in choice.candidates} == {"done", "pruned"}
    assert f"{states.count('pruned')} pruned" in pruned("status", "s")
    assert "nothing to retry" in pruned("retry", "s")
    assert "to start them once more" not in pruned("submit", "s.yaml", "--cluster", "local")


def test_a_pruned_trial_is_taken_up_again_bit_for_bit(pruned, tmp_path):
    run, *others = pruned.in_state("pruned")
    before = read_status(run.status)
    assert before is not None
    assert run.has_saved
    assert before.step < before.steps
    pruned("retry", "s", run.name)
    pruned("submit", "s.yaml", "--cluster", "local", "--wait")
    after = read_status(run.status)
    assert after is not None
    taken_up = [rung if rung["kept"] else {**rung, "taken_up": True} for rung in before.rungs]
    assert (after.state, after.step, after.rungs) == ("done", after.steps, taken_up)
    config, build = load_run(run.folder)
    alone = train(build, config, tmp_path / run.name)["series"]
    found = read_history(run.history)["series"]
    assert found.keys() == alone.keys()
    for name, columns in alone.items():
        for column, numbers in columns.items():
            assert np.array_equal(found[name][column], numbers, equal_nan=True), name
    if others:
        assert f"submitted {len(others)} run" in pruned("retry", "s", "--pruned")
        pruned("submit", "s.yaml", "--cluster", "local", "--wait")
    assert pruned.in_state("pruned") == []
    assert "no run of s was pruned" in pruned("retry", "s", "--pruned")


AT_HALF = {"epoch": 1, "step": 50}


class Trials:
    """Two trials of one method with two tuning seeds, written by hand; pruned at half of the training, keep: 0.5."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        trials = [Trial(number, {}, {seed: f"{number}{seed}aaaaaaaa" for seed in (0, 1)}) for number in (0, 1)]
        search = Search(0, "mean_loss", "min", [0, 1], [], {"at": [0.5], "keep": 0.5})
        search.methods["equal"] = SearchedMethod("equal", {"weighting": {"name": "equal"}}, trials=trials)
        write_search(Sweep(folder).trials, search)
        self.runs = {run: Run(folder / f"equal-{run}") for trial in trials for run in trial.runs.values()}
        for run in self.runs.values():
            run.folder.mkdir()

    def at_half(self, identity: str, value: float, status: Status | None = None) -> Pruning:
        """The pruning of a run that has just validated at half of its training."""
        status = status or Status()
        status.steps = 100
        status.best = {"value": "mean_loss", "direction": "min", "number": value}
        return Pruning(self.runs[identity], StatusFile(self.runs[identity], status))


def test_a_trial_is_compared_with_those_of_its_seed(tmp_path):
    trials = Trials(tmp_path)
    for identity, value in (("00aaaaaaaa", 2.0), ("01aaaaaaaa", 1.0), ("10aaaaaaaa", 1.5)):
        pruning = trials.at_half(identity, value)
        pruning.note_rungs(AT_HALF)
        assert pruning.goes_on()  # the third is better than the first one, which has its seed
    pruning = trials.at_half("11aaaaaaaa", 1.7)
    pruning.note_rungs(AT_HALF)
    assert not pruning.goes_on()
    assert pruning.status_file.status.rungs[0]["seen"] == {"01aaaaaaaa": 1.0}


def test_a_run_that_is_stopped_at_a_rung_notes_it_and_decides_at_its_next_start(tmp_path):
    trials = Trials(tmp_path)
    first = trials.at_half("00aaaaaaaa", 1.0)
    first.note_rungs(AT_HALF)
    trials.at_half("10aaaaaaaa", 2.0).note_rungs(AT_HALF)  # and it is stopped before it decides
    left = read_status(trials.runs["10aaaaaaaa"].status)
    assert left is not None
    assert left.rungs == [{"at": 0.5, "epoch": 1, "step": 50, "value": 2.0}]
    assert first.goes_on()  # it has seen the worse value
    again = Pruning(trials.runs["10aaaaaaaa"], StatusFile(trials.runs["10aaaaaaaa"], left))
    assert not again.goes_on()
    assert not again.goes_on(), "the decision is left behind by a worker that is killed before the run has stopped"
    take_up(left.rungs)
    assert again.goes_on(), "a run that was taken up again is pruned again"


@pytest.mark.usefixtures("fake_child")
def test_a_run_that_is_preempted_at_a_rung_is_pruned_when_its_job_is_requeued(make_grid, submit_locally, project):
    grid = make_grid(grid={"data.path": ["fine", "rung"]})
    path = as_search(grid, project / "runs", []).trials
    search = read_search(path)
    assert search is not None
    search.prune = {"at": [0.5], "keep": 0.5}
    write_search(path, search)
    sweep = submit_locally(grid)
    fine = sweep.wait("fine", "done")
    fine.rungs = [{"at": 0.5, "value": -1.0}]
    write_status(sweep.sweep.run(sweep.run("fine")).status, fine)
    while not sweep.wait("rung", "running").epochs:
        time.sleep(0.05)
    os.kill(sweep.worker, signal.SIGUSR2)
    os.waitpid(sweep.worker, 0)
    status = sweep.status("rung")
    assert (status.state, [set(rung) for rung in status.rungs]) == ("queued", [{"at", "epoch", "step", "value"}])
    sweep.begin_again()
    assert list(sweep.wait("rung", "pruned").rungs[0]["seen"].values()) == [-1.0]


@pytest.mark.parametrize("damaged", ["status.json", "trials.json", "the sweep"])
def test_what_cannot_be_read_prunes_nothing_and_ends_no_worker(damaged, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    trials = Trials(folder)
    trials.at_half("00aaaaaaaa", 1.0).note_rungs(AT_HALF)
    pruning = trials.at_half("10aaaaaaaa", 2.0)
    if damaged == "status.json":
        write_status(trials.runs["00aaaaaaaa"].status, Status(rungs=[{"at": 0.5, "value": None}]))
    elif damaged == "trials.json":
        Sweep(folder).trials.write_text('{"format": 1, "prune": [0.5]}')
    else:
        shutil.rmtree(folder)
    pruning.note_rungs(AT_HALF)
    assert pruning.goes_on()
    assert pruning.status_file.status.rungs[0]["seen"] == {}
