"""A full or read-only disk is named, whichever library writes."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from rig import synthetic_sweep as synthetic
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.cli import app
from mtlcluster.sweep.disk import DiskError, open_to_write

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
SETTINGS = {"epochs": 2, "batch_size": 16, "checkpoint_every": "0.000001s"}


class Disk:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", folder], check=True)

    def fill(self, leave):
        """Fills the disk except for a number of kibibytes."""
        (self.folder / "filler").unlink(missing_ok=True)
        free = os.statvfs(self.folder)
        (self.folder / "filler").write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - leave * 1024))

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.folder], check=True)


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk")
    yield made
    subprocess.run(["umount", "-l", made.folder], check=True)


def build():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    data = TensorData(x, {"a": x.sum(1)})
    task = Task("a", lambda outputs, targets: F.mse_loss(outputs.flatten(), targets), "regression")
    return Problem(MultiTaskModel(nn.Linear(4, 4000), {"a": nn.Linear(4000, 1)}), [task], data, data)


def failure(call):
    try:
        call()
    except Exception as error:
        return error


def test_a_checkpoint_or_history_that_does_not_fit_names_the_disk_and_the_run_goes_on_later(disk, tmp_path):
    whole = train(build, SETTINGS, tmp_path / "whole")
    files = set()
    for leave in (0, 4, 40, 200, 500, 640, 800):
        disk.fill(leave)
        if error := failure(lambda: train(build, SETTINGS, disk.folder / "run")):
            assert isinstance(error, DiskError)
            assert error.errno == errno.ENOSPC
            assert str(error).startswith(f"no space left on {disk.folder} ({disk.folder}/run/")
            files.add(Path(error.filename).name.partition("-")[0])
    assert "step" in files
    (disk.folder / "filler").unlink()
    history = train(build, SETTINGS, disk.folder / "run")
    for name, series in whole["series"].items():
        assert series["value"].tobytes() == history["series"][name]["value"].tobytes()


def test_a_read_only_disk_is_named(disk):
    (disk.folder / "run" / "checkpoints").mkdir(parents=True)
    disk.remount("ro")
    with pytest.raises(DiskError, match=f"only reading is possible on {disk.folder}"):
        train(build, SETTINGS, disk.folder / "run")
    disk.remount("rw")


@pytest.mark.parametrize(("number", "words"), [(errno.EDQUOT, "your quota is used up on"), (errno.EIO, "input/output")])
def test_a_used_up_quota_and_a_broken_disk_have_their_own_words(number, words, tmp_path):
    """torch turns both into the same error."""

    def write():
        with open_to_write(tmp_path / "x.new", tmp_path / "x.pt") as file:
            file.raw.failure = OSError(number, os.strerror(number))
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    with pytest.raises(DiskError, match=words):
        write()


def test_packing_features_names_the_disk(disk, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for clip in range(4):
        np.save(source / f"clip{clip}_rgb.npy", np.random.rand(100, 600).astype(np.float32))
    for leave in (0, 8, 938, 942):
        disk.fill(leave)
        result = CliRunner().invoke(app, ["pack-features", str(source), str(disk.folder / "out.h5")])
        assert result.exit_code == 2
        assert f"{disk.folder} has" in result.output or f"no space left on {disk.folder}" in result.output
        assert "Traceback" not in result.output
        (disk.folder / "out.h5.partial").unlink(missing_ok=True)


def test_a_report_that_does_not_fit_names_the_disk(disk):
    sweep = synthetic.make_sweep(disk.folder / "runs" / "sweep")
    for seed in range(2):
        synthetic.add_run(sweep, f"run-{seed}", synthetic.history(synthetic.method(), seed))
    for leave in (4, 100):
        disk.fill(leave)
        result = CliRunner().invoke(app, ["collect", "sweep", "--runs", str(disk.folder / "runs")])
        assert result.exit_code == 2
        assert f"no space left on {disk.folder}" in result.output
