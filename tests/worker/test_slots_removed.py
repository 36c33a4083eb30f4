"""The folder in which the slots of this machine are counted may be removed at any time, as cleaners of /tmp do."""

import os
import shutil
import time

import pytest

from mtlcluster.worker.slots import Machine

pytestmark = pytest.mark.usefixtures("fake_child")


@pytest.mark.parametrize("what", ["its files", "the folder", "the temporary folder"])
def test_runs_that_wait_go_on_waiting(make_grid, submit_locally, tmp_path, what):
    every_core = {"cpus": len(os.sched_getaffinity(0))}
    found = submit_locally(make_grid(grid={"data.path": ["endless", "fine"]}, resources=every_core))
    found.wait("endless", "running")
    temporary = tmp_path / "TMPDIR"  # the worker's; in this process another one may be remembered
    [folder] = temporary.iterdir()
    doomed = {"its files": list(folder.iterdir()), "the folder": [folder], "the temporary folder": [temporary]}[what]
    for path in doomed:
        assert path.is_relative_to(tmp_path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    time.sleep(1.5)
    assert found.status("fine") is None  # nor does it train on the cores of the other
    found.sweep.run(found.run("endless")).cancel.touch()
    found.wait("endless", "cancelled")
    assert found.wait("fine", "done").notes == []


def test_a_gpu_in_use_is_not_given_away_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    machine = Machine(tmp_path / "slots")
    first = machine.take(1, 1)
    shutil.rmtree(tmp_path / "slots")
    assert (first.gpus, machine.take(1, 1).gpus, machine.take(1, 1)) == (["4"], ["5"], None)
    first.free()
    assert machine.take(1, 1).gpus == ["4"]
