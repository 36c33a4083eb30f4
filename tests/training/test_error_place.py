"""An error names file and line of the user's code, whatever called it and whatever it called."""

import re
import subprocess
import sys

import pytest
import yaml

from mtlcluster.config.run import RunConfig
from mtlcluster.training.commands import preflight as checking

JOB = """
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, default_collate

from mtlcluster import MultiTaskModel, Problem, Task

sys.path.insert(0, str(Path(__file__).parents[1]))
fault = Path(__file__).parents[1].joinpath("fault.txt").read_text()
if fault == "import":
    import no_such_module                                           # import
if fault == "syntax":
    import bad_syntax
if fault == "beside":
    from beside import broken


class Data(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        if fault.startswith("dataset"):
            raise KeyError("no clip 7")                             # dataset dataset-workers
        if fault == "chain-workers":
            try:
                {}["x"]
            except KeyError as error:
                raise OSError("unreadable\\nclip") from error       # chain-workers
        return torch.ones(6), {"a": torch.tensor(1.0)}


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5 if fault == "forward" else 6, 8)

    def forward(self, inputs):
        if fault == "chain":
            try:
                torch.ones(2) @ torch.ones(3)
            except RuntimeError as error:
                raise ValueError("shapes") from error               # chain
        return self.layer(inputs)                                   # forward


def collate(samples):
    if fault == "collate-workers":
        return default_collate([*samples, (torch.ones(5), {})])     # collate-workers
    return default_collate(samples)


def loss(outputs, targets):
    if fault == "loss":
        outputs = outputs[:3]
    return F.mse_loss(outputs.flatten(), targets)                   # loss


@dataclass
class Options:
    metrics: bool = False


def build(data: Options):                                           # head built-in-loss
    if fault == "beside":
        broken()
    if fault == "threshold":
        Task("a", loss, "regression", threshold=7)                  # threshold
    if fault == "exit":
        sys.exit("no data here")                                    # exit
    if fault == "extra":
        return None.missing                                         # extra
    head = nn.Sequential(nn.Linear(7 if fault == "head" else 8, 2))
    if fault == "built-in-loss":
        task = Task("a", F.nll_loss, "regression")
    else:
        task = Task("a", loss, "regression")
    head = nn.Sequential(nn.Linear(7 if fault == "head" else 8, 1))
    return Problem(MultiTaskModel(Trunk(), {"a": head}), [task], Data(), Data(), collate=collate,
                   workers=fault.endswith("workers"))
"""
KINDS = {
    "import": "ModuleNotFoundError: No module named 'no_such_module'",
    "dataset": "KeyError: 'no clip 7'",
    "dataset-workers": "KeyError: 'no clip 7'",
    "chain-workers": "OSError: unreadable",
    "collate-workers": "RuntimeError: ",
    "forward": "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    "chain": "ValueError: shapes",
    "loss": "RuntimeError: The size of tensor a",
    "head": "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    "built-in-loss": "RuntimeError: ",
    "threshold": "ValueError: the threshold of task 'a'",
    "exit": "SystemExit: no data here",
    "extra": "AttributeError: 'NoneType' object has no attribute 'missing'",
}


PARTS = {"head": "(in heads.a.0 (Linear), which jobs/", "built-in-loss": "(in the loss of task 'a', which jobs/"}


@pytest.fixture
def faulty(project, monkeypatch):
    """Makes the project's job one that fails in a certain way; returns the line where it does."""
    monkeypatch.chdir(project)
    (project / "jobs" / "faulty.py").write_text(JOB)
    (project / "bad_syntax.py").write_text("x = 1\ny = = 2\n")
    (project / "beside.py").write_text("import torch\n\ndef broken():\n    torch.zeros(2).view(3)\n")
    config = RunConfig(job="jobs/faulty.py:build", epochs=1, batch_size=4)
    (project / "run.yaml").write_text(yaml.safe_dump(config.model_dump()))

    def make(fault):
        (project / "fault.txt").write_text(fault)
        lines = JOB.splitlines()
        return next((i for i, line in enumerate(lines, 1) if fault in line.partition("  # ")[2].split()), 0)

    return make


SLOW = {"chain-workers", "collate-workers"}  # to end a loader's process takes torch five seconds


@pytest.mark.parametrize("fault", [pytest.param(f, marks=[pytest.mark.long] if f in SLOW else []) for f in KINDS])
def test_the_check_names_the_users_line(faulty, project, capsys, fault):
    line = faulty(fault)
    assert line
    assert checking.main(project, [project / "run.yaml"]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"failed: {KINDS[fault]}")
    assert said.count("\n") == 1
    assert f"jobs/faulty.py:{line}" in said
    assert "site-packages" not in said
    assert str(project) not in said
    assert PARTS.get(fault, "") in said


@pytest.mark.parametrize(
    ("fault", "place"), [("syntax", r"SyntaxError: invalid syntax \(bad_syntax.py:2\)"), ("beside", r"\(beside.py:4\)")]
)
def test_the_check_names_the_line_of_code_beside_the_job(faulty, project, capsys, fault, place):
    faulty(fault)
    checking.main(project, [project / "run.yaml"])
    assert re.search(place, capsys.readouterr().out)


def test_train_in_a_terminal_shows_the_users_frames_alone(faulty, project):
    line = faulty("loss")
    command = [sys.executable, "-m", "mtlcluster", "train", "run.yaml", "--folder", "out"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert done.stderr.count("mtlcluster/") == 0
    assert f'jobs/faulty.py", line {line}' in done.stderr
    assert "Traceback" not in done.stderr
    assert last.startswith("error: RuntimeError: The size of tensor a (3) must match")
    assert last.endswith(f"(jobs/faulty.py:{line})")


def test_status_and_log_of_a_run_name_the_users_line(faulty, project, make_grid, submit_locally):
    job = JOB.replace('fault = Path(__file__).parents[1].joinpath("fault.txt").read_text()', 'fault = "forward"')
    faulty("forward")
    line = job[: job.index("# forward")].count("\n") + 1
    (project / "jobs" / "tiny.py").write_text(job)
    sweep = submit_locally(make_grid(set={"batch_size": 4}, grid={"seed": [0]}))
    failed = sweep.wait("", "failed", seconds=120)
    assert failed.error.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert failed.error.endswith(f"(jobs/tiny.py:{line})")
    assert sweep.log().strip().splitlines()[-1] == failed.error
