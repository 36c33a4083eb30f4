"""A run trains as from a bare terminal, even if it is submitted from a desktop, a notebook or a debugging session."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Variables of a notebook on a desktop, or of somebody who debugs.
FRONT_END = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "DISPLAY": "localhost:10.0",
    "WAYLAND_DISPLAY": "wayland-0",
    "QT_QPA_PLATFORM": "xcb",
    "SDL_VIDEODRIVER": "x11",
    "PYTHONINSPECT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONSTARTUP": "/nowhere.py",
    "PYTHONWARNINGS": "error",
    "PYTHONBREAKPOINT": "no_such_debugger.set_trace",
    "PYTHONSAFEPATH": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONIOENCODING": "ascii:strict",
    "FORCE_COLOR": "1",
}
JOB = """
import os, sys, warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from mtlcluster import MultiTaskModel, Problem, Task, TensorData


@dataclass
class Data:
    notes: str = ""


def build(data: Data) -> Problem:
    import matplotlib.pyplot as plt

    plt.plot([1, 2]), plt.show()            # a screen would keep it open
    if "AT_A_TERMINAL" not in os.environ:
        breakpoint()
    warnings.warn("this is old", DeprecationWarning)
    warnings.warn("this is odd")
    print("größe → 任务 \\udcff")
    names = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "QT_QPA_PLATFORM", "SDL_VIDEODRIVER", "PYTHONINSPECT", "KEPT")
    seen = {name: os.environ.get(name) for name in names} | {"debug": __debug__, "screen": plt.get_backend().lower()}
    with open(data.notes, "a") as file:
        print(seen, file=file)
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    parts = [TensorData(inputs, {"a": inputs.sum(1)})] * 3
    return Problem(MultiTaskModel(nn.Linear(3, 3), {"a": nn.Linear(3, 1)}), [Task("a", lambda o, t: ((o[:, 0] - t) ** 2)
                   .mean(), "regression")], *parts)
"""
EXPECTED = {
    "DISPLAY": None, "WAYLAND_DISPLAY": None, "MPLBACKEND": "Agg", "QT_QPA_PLATFORM": "offscreen",
    "SDL_VIDEODRIVER": "dummy", "PYTHONINSPECT": None, "KEPT": "yes", "debug": True, "screen": "agg",
}  # fmt: skip


@pytest.fixture
def sketch(project: Path) -> Path:
    """A grid of a job that draws, debugs and warns, and the file to which it writes its environment."""
    (project / "jobs" / "draws.py").write_text(JOB, "utf-8")
    notes = project / "notes.txt"
    grid = {"name": "sketch", "job": "draws", "set": {"epochs": 1, "data.notes": str(notes)}, "grid": {"seed": [1]}}
    (project / "sketch.yaml").write_text(json.dumps(grid | {"resources": {"memory": "500M", "time": "5m"}}))
    (project / "single.yaml").write_text(json.dumps({"job": "draws", "epochs": 1, "data": {"notes": str(notes)}}))
    return notes


def mtlcluster(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Starts the command with a Python whose own variables are left alone: these are the user's wish."""
    command = [sys.executable, "-E", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
               "from mtlcluster.cli import main; main()", *arguments]  # fmt: skip
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_a_run_that_draws_debugs_and_warns_trains_to_its_end(project, sketch):
    """`--check`, the worker and its child have the same environment."""
    front_end = FRONT_END | {"KEPT": "yes"}
    done = mtlcluster(
        project, "submit", "sketch.yaml", "--cluster", "local", "--check", "--wait", "--runs", "runs", **front_end
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: " in done.stdout
    seen = [eval(line) for line in sketch.read_text().splitlines()]
    assert seen == [EXPECTED] * 2
    [log] = project.glob("runs/sketch/*/log.txt")
    assert "größe → 任务 \\udcff" in log.read_text("utf-8")
    assert "\x1b" not in log.read_text("utf-8")
    assert "import time:" not in log.read_text("utf-8")


def test_train_in_a_notebooks_terminal_draws_into_files(project, sketch):
    done = mtlcluster(project, "train", "single.yaml", MPLBACKEND=FRONT_END["MPLBACKEND"], AT_A_TERMINAL="yes")
    assert done.returncode == 0, done.stderr
    assert eval(sketch.read_text())["screen"] == "agg"


def test_a_batch_script_leaves_the_front_end_behind_before_the_clusters_own_lines():
    """The cluster's lines may start a screen, or say how Python behaves."""
    from mtlcluster.processes import environment

    script = f"{environment.SHELL}\nexport DISPLAY=:99\nenv -0"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, **FRONT_END, "KEPT": "yes"}, capture_output=True)
    seen = dict(entry.split("=", 1) for entry in done.stdout.decode().strip("\0").split("\0"))
    left = {name for name in FRONT_END if seen.get(name) == FRONT_END[name]}
    assert left == {"PYTHONDONTWRITEBYTECODE"}, "which only says where compiled files go"
    assert seen["DISPLAY"] == ":99"
    assert seen["KEPT"] == "yes"


@pytest.mark.long
def test_on_slurm_as_on_this_machine(slurm, project, sketch):
    """Jobs inherit the variables of the submitting shell. The PYTHONHOME of another Python would break theirs."""
    arguments = ["submit", "sketch.yaml", "--cluster", "slurm", "--wait", "--runs", "runs"]
    done = mtlcluster(project, *arguments, **FRONT_END, KEPT="yes", PYTHONHOME=sys.base_prefix)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [eval(line) for line in sketch.read_text().splitlines()] == [EXPECTED]


def test_a_job_that_asks_its_user_gets_no_answer_and_goes_on(project, make_grid, submit_locally):
    """The process of a run listens only to its worker."""
    path = project / "jobs" / "tiny.py"
    path.write_text(path.read_text() + "\ntry:\n    input('go on? ')\nexcept EOFError:\n    print('nobody there')\n")
    sweep = submit_locally(make_grid(grid={"seed": [0]}, set={"epochs": 1}))
    sweep.wait("", "done", seconds=60)
    assert "nobody there" in sweep.log()
