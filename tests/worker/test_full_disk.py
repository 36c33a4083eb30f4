"""A disk that is full or may only be read, for a while: the worker lives on, and how its runs ended stands in `status`
as soon as it can be written."""

import contextlib
import os
import subprocess
import time

import pytest
from rig.local_sweep import LocalSweep
from rig.slurm_cluster import wait_for

from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.locks import is_locked

pytestmark = pytest.mark.usefixtures("fake_child")


def mount(*arguments):
    if os.getuid() != 0:
        pytest.skip("to mount takes root")
    subprocess.run(["mount", *arguments], check=True)


def states(sweep):
    return {run.run.partition("-")[0].removeprefix("path="): (run.state, run.error) for run in observe([sweep])}


@pytest.fixture
def small_disk(tmp_path):
    """Of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", "--recursive", str(disk)], check=True)


@contextlib.contextmanager
def full(disk, run):
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(2**12)):
            pass
    yield
    ballast.unlink()


@contextlib.contextmanager
def read_only(disk, run):
    mount("--bind", str(run.folder), str(run.folder))
    mount("-o", "remount,bind,ro", str(run.folder))
    yield
    subprocess.run(["umount", str(run.folder)], check=True)


@pytest.mark.parametrize(
    ("trouble", "words"), [(full, "No space left on device"), (read_only, "Read-only file system")]
)
def test_how_runs_ended_is_told_once_it_can_be_written(make_grid, small_disk, trouble, words):
    every_core = {"cpus": len(os.sched_getaffinity(0))}
    grid = make_grid(grid={"data.path": ["writes", "fine"]}, resources=every_core)  # one after the other
    found = LocalSweep(submit(grid, small_disk, "local", print))
    sweep, run = found.sweep, found.sweep.run(found.run("writes"))
    try:
        wait_for(lambda: (run.folder / "data").exists(), "the run to write")
        with trouble(small_disk, run):
            wait_for(lambda: not is_locked(run.lock), "the run to end")
            if trouble is read_only:
                found.wait("fine", "done")
            time.sleep(3)
            assert states(sweep)["writes"] == ("running", "")  # the last that could be written
        found.wait("writes", "failed")
        assert words in states(sweep)["writes"][1]
        assert "could not be written at first" in found.status("writes").notes[-1]
        found.wait("fine", "failed" if trouble is full else "done")
        assert trouble is read_only or words in states(sweep)["fine"][1]
        assert os.waitstatus_to_exitcode(os.waitpid(found.worker, 0)[1]) == 1  # it has done all that it could
        resubmit(sweep, [run.name], restart=False, say=print)
        wait_for(lambda: found.status("writes").attempt == 2, "the retry")
    finally:
        found.kill_workers()
