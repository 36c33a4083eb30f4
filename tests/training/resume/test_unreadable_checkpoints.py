"""A checkpoint can be read back, or the run fails and names the key. A whole checkpoint is never deleted."""

import collections
import datetime
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import RunConfig
from mtlcluster.sweep.checksums import write_checksum
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.commands import preflight as checking
from mtlcluster.training.resume.checkpoint import Checkpoints, Unreadable, load, save


@dataclass
class Noted:
    value: float = 1.0


class Ordered(collections.OrderedDict):
    pass


PLAIN = {
    "float64": np.float64(1.5), "int32": np.int32(-3), "bool": np.bool_(True), "text": np.str_("é"),
    "date": np.datetime64("2020-01-01T10:00"), "complex": np.complex64(1 + 2j), "half": np.float16(0.1),
    "array": np.arange(6, dtype=">i4").reshape(2, 3).T, "empty": np.empty((0, 3)), "texts": np.array(["x", "yy"]),
    "none": np.array(3.0), "nested": {"a": [np.float32(0.1), (np.ones(2), {1, 2})]},
    "state": random.Random(1).getstate(),
}  # fmt: skip
UNREADABLE = {
    "path": (Path("x"), "schedule.history"),
    "dataclass": ({"kept": [1, (2, Noted())]}, "schedule.history.kept.1.1"),
    "deque": (collections.deque([1]), "schedule.history"),
    "ordered": ([Ordered(a=1)], "schedule.history.0"),
    "date": ({"at": datetime.datetime(2020, 1, 1)}, "schedule.history.at"),
    "generator": (torch.Generator(), "schedule.history"),
    "objects": (np.array([1, None], dtype=object), "schedule.history"),
    "record": (np.zeros(2, [("a", "f4")]), "schedule.history"),
    "function": ({"by": len}, "schedule.history.by"),
    "lambda": (lambda x: x, "schedule.history"),
    "frozen": (frozenset({1}), "schedule.history"),
    "key": ({Path("x"): 1}, "schedule.history"),
}  # fmt: skip


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return type(left) is type(right) and left == right


def test_plain_values_of_numpy_come_back_as_they_were(tmp_path):
    save(tmp_path / "step-000000001.pt", {"best": None, "own": PLAIN})
    assert same(load(tmp_path / "step-000000001.pt")["own"], PLAIN)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_back_is_refused_by_its_key_before_anything_is_replaced(kind, tmp_path):
    path = tmp_path / "step-000000001.pt"
    save(path, {"best": None, "schedule": {"history": 1}})
    value, key = UNREADABLE[kind]
    with pytest.raises(Unreadable, match=f"'{key}' cannot be kept in a checkpoint: a value of type"):
        save(path, {"best": None, "model": {"x": torch.ones(3)}, "schedule": {"history": value}})
    assert load(path)["schedule"] == {"history": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.sha256"]


class Hostile:
    """An array as numpy pickles it, but of objects, whose addresses are in its bytes."""

    def __reduce__(self):
        make = np.array([1.0]).__reduce__()[0]
        return make, (np.ndarray, (0,), b"b"), (1, (2,), np.dtype("O"), False, b"A" * 16)


def test_a_hostile_array_is_refused_not_made(tmp_path):
    path = tmp_path / "step-000000001.pt"
    torch.save({"best": None, "own": Hostile()}, path)
    write_checksum(path)
    with pytest.raises(Unreadable, match="whole, but cannot be read"):
        load(path)


class Kept(nn.Module):
    """A layer with a state of its own, which holds a value of the given kind."""

    def __init__(self, values):
        super().__init__()
        self.values, self.calls = values, 0

    def get_extra_state(self):
        return {"scale": self.values[min(self.calls, len(self.values) - 1)]}

    def set_extra_state(self, state):
        self.values = [state["scale"]]

    def forward(self, x):
        self.calls += self.training
        return x * 2.0


def problem(*values):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = TensorData(x, {"a": x.sum(1)})
    trunk = nn.Sequential(nn.Linear(4, 4), Kept(values))
    task = Task("a", lambda outputs, targets: F.mse_loss(outputs.flatten(), targets), "regression")
    return Problem(MultiTaskModel(trunk, {"a": nn.Linear(4, 1)}), [task], data, data)


SETTINGS = {"epochs": 3, "batch_size": 16}


class Stop(Callbacks):
    def __init__(self, after):
        self.after = after

    def should_stop(self):
        self.after -= 1
        return self.after < 0


def test_a_run_with_a_numpy_scalar_in_its_model_goes_on_exactly(tmp_path):
    whole = train(lambda: problem(np.float64(1.5)), SETTINGS, tmp_path / "whole")
    with pytest.raises(StopRequested):
        train(lambda: problem(np.float64(1.5)), SETTINGS, tmp_path / "stopped", Stop(6))
    again = train(lambda: problem(np.float64(7)), SETTINGS, tmp_path / "stopped")
    assert len(again["info"]["attempts"]) == 2
    for name, series in whole["series"].items():
        assert series["value"].tobytes() == again["series"][name]["value"].tobytes()
    state, _ = Checkpoints(tmp_path / "stopped/checkpoints").newest()
    assert same(state["model"]["trunk.1._extra_state"], {"scale": np.float64(1.5)})


def test_what_cannot_be_kept_is_said_after_the_first_step_not_at_the_first_save(tmp_path):
    asked = Stop(100)
    with pytest.raises(Unreadable, match=r"'model.trunk.1._extra_state.scale' cannot be kept .* PosixPath"):
        train(lambda: problem(Path("x")), {**SETTINGS, "checkpoint_every": "1h"}, tmp_path, asked)
    assert asked.after == 100
    assert not list(tmp_path.rglob("*.pt"))


def test_what_comes_later_leaves_the_checkpoint_before(tmp_path):
    often = {**SETTINGS, "checkpoint_every": "0.000001s"}
    with pytest.raises(Unreadable, match=r"_extra_state\.scale"):
        train(lambda: problem(1.0, 1.0, 1.0, Path("x")), often, tmp_path)
    state, notes = Checkpoints(tmp_path / "checkpoints").newest()
    assert (state["step"], notes) == (2, [])


def test_a_whole_checkpoint_that_cannot_be_read_stays_and_stops_the_run_every_time(tmp_path):
    with pytest.raises(StopRequested):
        train(lambda: problem(1.0), SETTINGS, tmp_path, Stop(6))
    path = max(tmp_path.glob("checkpoints/step-*.pt"))
    torch.save({"best": None, "identity": "x", "schedule": Noted()}, path)
    write_checksum(path)
    before = {file.name: file.read_bytes() for file in (tmp_path / "checkpoints").iterdir()}
    for _ in range(2):
        with pytest.raises(Unreadable, match=f"{path.name} is whole, but cannot be read"):
            train(lambda: problem(1.0), SETTINGS, tmp_path)
        assert {file.name: file.read_bytes() for file in (tmp_path / "checkpoints").iterdir()} == before


def test_the_check_saves_and_reads_back(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    text = (project / "jobs" / "tiny.py").read_text()
    own = "    def get_extra_state(self):\n        from pathlib import Path\n        return [Path('x')]\n\n"
    (project / "jobs" / "tiny.py").write_text(text.replace("    slow = 0.0\n", f"    slow = 0.0\n\n{own}", 1))
    config = RunConfig(job="jobs/tiny.py:build", data={"metrics": False})
    (project / "run.yaml").write_text(yaml.safe_dump(config.model_dump()))
    assert checking.main(project, [project / "run.yaml"]) == 1
    assert "failed: 'model.trunk._extra_state.0' cannot be kept in a checkpoint" in capsys.readouterr().out
