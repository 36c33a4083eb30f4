"""Trials that are behind stop by themselves, and can be taken up again bit for bit: real trainings on this machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rig.tiny_runs import PROJECT

from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.pruning import is_kept
from mtlcluster.sweep.status import Status, read_status
from mtlcluster.sweep.trials import read_search
from mtlcluster.training.train import load_run, train

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

    def __call__(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "mtlcluster", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=600)
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
        assert (status.state == "pruned") is any(not rung["kept"] for rung in status.rungs)


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
    assert (after.state, after.step, after.rungs) == ("done", after.steps, before.rungs)
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
