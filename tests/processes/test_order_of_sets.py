"""Sets of strings have the same order in all processes of all runs: classes numbered by a set keep their numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.processes.environment import SHELL

ROOT = Path(__file__).parents[2]
JOB = """
import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import Dataset
from mtlcluster import MultiTaskModel, Problem, Task

GENRES = ["horror", "comedy", "drama", "news", "music", "sport", "western", "musical"]


@dataclass
class Data:
    notes: str = ""
    workers: int = 0


class Noting(Dataset):
    def __init__(self, notes):
        self.notes = notes

    def __len__(self):
        return 8

    def __getitem__(self, index):
        note(self.notes, "loader")
        return torch.full((3,), float(index)), {"a": torch.tensor(1.0)}


def note(path, who):
    with open(path, "a") as file:
        file.write(f"{who} {list(set(GENRES))}\\n")


def build(data: Data) -> Problem:
    torch.multiprocessing.set_start_method("spawn", force=True)
    note(data.notes, "build")
    parts = [Noting(data.notes)] * 3
    tasks = [Task("a", lambda o, t: ((o[:, 0] - t) ** 2).mean(), "regression")]
    return Problem(MultiTaskModel(nn.Linear(3, 3), {"a": nn.Linear(3, 1)}), tasks, *parts, workers=data.workers)
"""
ORDER = 'print(list(set("horror comedy drama news music sport western musical".split())))'


@pytest.fixture
def wanted(monkeypatch):
    """The order that every process must have. This process itself has another one."""
    fixed = {**os.environ, "PYTHONHASHSEED": "0"}
    monkeypatch.setenv("PYTHONHASHSEED", "1234")
    return subprocess.check_output([sys.executable, "-c", ORDER], env=fixed, text=True).strip()


def orders(notes):
    lines = (line.partition(" ") for line in notes.read_text().splitlines())
    found = {(who, order) for who, _, order in lines}
    notes.unlink()
    return found


@pytest.fixture
def train_named(project, submit_locally, wanted):
    """`train_named(workers)`: trains a run. Returns the orders that its processes saw, and a way to ask others."""
    (project / "jobs" / "named.py").write_text(JOB)
    notes = project / "notes.txt"

    def ask(*words):
        command = [sys.executable, "-m", "mtlcluster", *words]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return orders(notes)

    def train(workers):
        settings = {"epochs": 1, "data.notes": str(notes), "data.workers": workers, "batch_size": 8}
        grid = {"name": "sweep", "job": "named", "set": settings, "grid": {"seed": [1]}}
        (project / "sweep.yaml").write_text(json.dumps(grid | {"resources": {"memory": "500M"}}))
        submit_locally(read_grid(project / "sweep.yaml")).wait("", "done", seconds=200)
        (project / "one.yaml").write_text(json.dumps({"job": "named", "data": {"notes": str(notes)}}))
        return orders(notes), ask

    return train


def test_of_a_run_and_of_a_check_in_a_terminal(train_named, wanted):
    found, ask = train_named(workers=0)
    assert found == {("build", wanted), ("loader", wanted)}
    assert ask("check", "one.yaml") == {("build", wanted), ("loader", wanted)}


@pytest.mark.long
def test_of_loaders_that_are_spawned_and_of_predictions(train_named, wanted):
    found, ask = train_named(workers=1)
    assert found == {("build", wanted), ("loader", wanted)}
    assert ask("evaluate", "sweep/seed=1", "--yes") == {("build", wanted), ("loader", wanted)}


def test_of_a_program_that_was_started_anew_as_it_was_called(wanted):
    """Also for `train` and `check` in a terminal."""
    fix = "from mtlcluster.processes.environment import fix_hashes; import sys; fix_hashes(); print(sys.argv[1:]);"
    words = ["a b", "$HOME", "--", "*"]
    said = subprocess.check_output([sys.executable, "-c", fix + ORDER, *words], cwd=ROOT, text=True)
    assert said.splitlines() == [str(words), wanted]


def test_of_what_a_batch_script_starts(wanted):
    said = subprocess.check_output(["bash", "-c", f"{SHELL}; '{sys.executable}' -c '{ORDER}'"], text=True)
    assert said.strip() == wanted
