"""Files that a user has put into checkpoints/ are neither read nor removed, and stop nothing."""

import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.training.callbacks import Callbacks, StopRequested

NAMES = ["step-1 (copy).pt", "step-abc.pt", "best-x.pt", "step-.pt", "best-1.pt", "step-000000001.pt.bak", ".x.new",
         "step-00000000²3.pt", "notes.txt"]  # fmt: skip


class Once(Callbacks):
    def __init__(self):
        self.asked = 0

    def should_stop(self):
        self.asked += 1
        return self.asked == 5


def build():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = TensorData(x, {"a": x.sum(1)})
    task = Task("a", lambda outputs, targets: F.mse_loss(outputs.flatten(), targets), "regression")
    return Problem(MultiTaskModel(nn.Linear(4, 4), {"a": nn.Linear(4, 1)}), [task], data, data)


def put(path, kind):
    if kind == "folder":
        path.mkdir(parents=True)
        (path / "inside").write_text("x")
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("somebody's")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_a_stranger_stays_and_the_run_goes_on(kind, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    # Also what has the form of the run's own names, far from its steps: nothing but a file is a checkpoint.
    own = [] if kind == "file" else ["step-000000999.pt", "best-000000999.pt", ".step-000000003.pt.1.new"]
    names = [*NAMES, *own]
    for name in names:
        put(folder / name, kind)
    settings = {"epochs": 3, "batch_size": 16, "checkpoint_every": "0.000001s"}
    with pytest.raises(StopRequested):
        train(build, settings, tmp_path, Once())
    history = train(build, settings, tmp_path)
    assert [attempt["step"] for attempt in history["info"]["attempts"]] == [0, 4]
    assert set(names) <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_a_checksum_that_is_no_file_is_no_checksum(kind, tmp_path):
    settings = {"epochs": 3, "batch_size": 16, "checkpoint_every": "0.000001s"}
    with pytest.raises(StopRequested):
        train(build, settings, tmp_path, Once())
    *_, before, newest = sorted((tmp_path / "checkpoints").glob("step-*.pt"))
    checksum = newest.with_name(newest.name + ".sha256")
    checksum.unlink()
    put(checksum, kind)
    history = train(build, {**settings, "checkpoint_every": "1h"}, tmp_path)
    assert history["info"]["finished"]
    assert [attempt["step"] for attempt in history["info"]["attempts"]] == [0, int(before.stem[5:])]
