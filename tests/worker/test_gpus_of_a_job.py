"""GPUs that a job or this machine really has, by whatever names: no two runs ever share one unasked."""

import pytest

from mtlcluster.worker import slots
from mtlcluster.worker.slots import JobRoom, Machine, visible_gpus

PLAIN = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000)
"""
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
  MIG 1g.5gb      Device  0: (UUID: MIG-1111)
  MIG 1g.10gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000)
"""


@pytest.fixture
def driver(project, monkeypatch):
    """`driver(listing)`: what nvidia-smi lists from now on."""
    folder = project / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def lists(listing: str) -> None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'X'\n{listing}X\n")
        (folder / "nvidia-smi").chmod(0o755)
        slots._installed.cache_clear()

    slots._installed.cache_clear()
    yield lists
    slots._installed.cache_clear()


def test_a_job_with_fewer_gpus_than_asked_runs_one_after_another_or_fails(driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1111")
    room = JobRoom(at_once=2)
    first = room.take(1, 1)
    assert first.gpus == ["MIG-1111"]
    assert room.take(1, 1) is None
    first.free()
    assert room.take(1, 1).gpus == ["MIG-1111"]
    with pytest.raises(OSError, match="asks for 2 GPUs, its job was given 1"):
        JobRoom(at_once=2).take(1, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    with pytest.raises(OSError, match="asks for 1 GPU, its job was given 0"):
        JobRoom(at_once=1).take(1, 1)


def test_where_no_variable_is_set_several_runs_still_get_gpus_of_their_own(driver):
    assert JobRoom(at_once=1).take(1, 2).gpus is None
    assert JobRoom(at_once=2).take(1, 1).gpus is None  # not NVIDIA's: nobody knows
    driver(PLAIN)
    room = JobRoom(at_once=2)
    assert [room.take(1, 1).gpus, room.take(1, 1).gpus] == [["0"], ["1"]]
    assert room.take(1, 1) is None


def test_instances_of_a_divided_gpu_are_gpus(driver, tmp_path):
    driver(DIVIDED)
    assert visible_gpus() == ["MIG-1111", "MIG-2222", "GPU-bbbb2222-0000"]
    machine = Machine(tmp_path / "slots")
    assert machine.take(1, 1).gpus == ["MIG-1111"]
    assert Machine(tmp_path / "slots").take(1, 2).gpus == ["MIG-2222", "GPU-bbbb2222-0000"]
    assert machine.take(1, 1) is None


@pytest.mark.parametrize("name", ["GPU-aaaa1111-0000", "GPU-aaaa", "0"])
def test_a_gpu_is_held_whatever_another_shell_calls_it(driver, tmp_path, monkeypatch, name):
    driver(PLAIN)
    assert Machine(tmp_path).take(1, 1).gpus == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{name}, GPU-bbbb2222-0000")
    other = Machine(tmp_path)
    assert other.take(1, 1).gpus == ["GPU-bbbb2222-0000"]
    assert other.take(1, 1) is None
