"""Runs whose data are loaded by other processes, under the real worker: they train, are preempted in mid-epoch, and go
on exactly; and whoever is killed, no loader process is left that holds the run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rig.slurm_sweep import SlurmSweep
from rig.tiny_runs import assert_same

from mtlcluster.config.grid import read_grid
from mtlcluster.config.run import RunConfig
from mtlcluster.launch.executors import local
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.locks import is_locked
from mtlcluster.training.train import load_build, train

ROOT = Path(__file__).parents[3]
STEPS = 6  # of an epoch


def whole_series(run, project, folder):
    """Trains the run's configuration here, in peace."""
    values = yaml.safe_load(run.config.read_text())
    values["data"]["slow"] = 0.0
    config = RunConfig(**{key: value for key, value in values.items() if key != "origin"})
    with pytest.MonkeyPatch.context() as here:
        here.delenv("TMPDIR")  # this process had another when it began
        return train(load_build(config.job, project, config), config, folder)["series"]


def wait_for(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.05)


def training_process(run):
    """Its id, once there is one."""

    def find():
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"child" in words and str(run.folder).encode() in words:
                    return int(entry.name)
        return None

    wait_for(find, "the training process")
    return find()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def preempted(found, part, times):
    """Stops the worker `times` times in the midst of an epoch of the run, and starts it again, as Slurm does."""
    run = found.sweep.run(found.run(part))
    for time_of in range(1, times + 1):
        wait_for(
            lambda n=time_of: (s := found.status(part)) and s.attempt == s.epoch == n,
            lambda: f"{part} to train: {found.status(part)}\n{found.log(part)}",
        )
        time.sleep(0.3)
        os.kill(found.worker, signal.SIGUSR2)
        os.waitpid(found.worker, 0)
        assert (status := found.status(part)).state == "queued", f"{status}\n{found.log(part)}"
        assert status.step % STEPS, "it was stopped at the end of an epoch"
        found.begin_again()
    wait_for(lambda: found.status(part).state in ("done", "failed"), "the run to end")
    assert found.status(part).state == "done", found.log(part)
    return read_history(run.history)


def check_exact(found, part, project, folder, times):
    history = preempted(found, part, times)
    assert len(history["info"]["attempts"]) == times + 1
    assert_same(whole_series(found.sweep.run(found.run(part)), project, folder), history["series"])


@pytest.fixture(autouse=True)
def long_temporary_folder(project, monkeypatch):
    """Too long for the name of a socket, as on clusters that make one for each job."""
    folder = project.parent / ("TMPDIR" + "-of-a-job" * 9)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))


def loading(make_grid, epochs, settings=None, **data):
    """A grid of one run that does as `data` says."""
    options = {f"data.{name}": value for name, value in data.items()}
    settings = {"epochs": epochs, "batch_size": 8, **options, **(settings or {})}
    return make_grid(job="loading", grid={"seed": [0]}, set=settings)


def test_preempted_in_mid_epoch_it_ends_as_if_left_alone(make_grid, submit_locally, project, tmp_path):
    found = submit_locally(loading(make_grid, epochs=2, slow=0.06, workers=1))
    check_exact(found, "", project, tmp_path / "whole", times=1)


@pytest.mark.long
@pytest.mark.parametrize("persistent", [False, True], ids=["of an epoch", "persistent"])
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("workers", [1, 2])
def test_with_loaders_of_every_sort(make_grid, submit_locally, project, tmp_path, workers, start, persistent):
    data = {"workers": workers, "start": start, "persistent": persistent, "slow": 0.03 * workers}
    found = submit_locally(loading(make_grid, epochs=3, **data))
    check_exact(found, "", project, tmp_path / "whole", times=2)


@pytest.mark.long
def test_whoever_is_killed_no_loader_stays_behind_or_holds_the_run(make_grid, submit_locally, project):
    """While both of its loaders hang, as in a file system that is gone."""
    found = submit_locally(loading(make_grid, epochs=1, workers=2, hang=str(project / "never")))
    run = found.sweep.run(found.run(""))

    def loaders():
        pid = training_process(run)
        wait_for(lambda: len(children(pid)) == 2, "the loaders")
        return pid, children(pid)

    pid, both = loaders()
    os.kill(pid, signal.SIGKILL)
    assert "killed by signal 9" in found.wait("", "failed").error
    wait_for(lambda: not any(map(is_alive, both)), "the loaders to end")
    os.waitpid(found.worker, 0)
    found.worker = int(resubmit(found.sweep, [run.name], restart=False, say=print).job_ids[0].split(":")[2])
    pid, both = loaders()
    os.kill(found.worker, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, both)), "the loaders to end")
    assert not is_locked(run.lock)


@pytest.mark.long
def test_killed_at_any_moment_with_loaders_it_ends_the_same(make_grid, submit_locally, project, tmp_path):
    """The training process, its worker or both, most often while it saves."""
    often = {"checkpoint_every": "0.000001s"}
    found = submit_locally(loading(make_grid, epochs=30, settings=often, workers=2))
    run, moments = found.sweep.run(found.run("")), random.Random(1)
    for kill in range(6):
        wait_for(lambda n=kill: (s := found.status()) and s.attempt > n and s.epochs, "it to start")
        pid = training_process(run)
        time.sleep(moments.random() * 2)
        for victim in ([pid], [found.worker], [pid, found.worker])[kill % 3]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        wait_for(lambda: not is_locked(run.lock), "all to end")
        if kill % 3 == 0:
            found.wait("", "failed", "done")
        os.waitpid(found.worker, 0)
        if kill % 3 == 0 and found.status().state == "failed":
            found.worker = int(resubmit(found.sweep, [run.name], restart=False, say=print).job_ids[0].split(":")[2])
        elif found.status().state != "done":
            submission, code = found.status().submission, next(found.sweep.code.iterdir()).name
            found.worker = local.start_worker(found.sweep, submission, code)
    wait_for(lambda: found.status().state in ("done", "failed"), "it to end")
    assert_same(whole_series(run, project, tmp_path / "whole"), read_history(run.history)["series"])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_comic_mischief_demo_with_two_loaders_twice_preempted_on_slurm_equals_the_undisturbed(slurm, tmp_path):
    def call(*arguments):
        subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=True)

    call("jobs.comic_mischief.synthetic", str(tmp_path / "data"), "--clips", "400")
    call("mtlcluster", "pack-features", str(tmp_path / "data/features"), str(tmp_path / "features.h5"),
         "--add", "video=rgb+flow")  # fmt: skip
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    demo = yaml.safe_load((ROOT / "configs/comic_mischief-demo.yaml").read_text())
    place = {"annotations": str(tmp_path / "data/annotations.json"), "features": str(tmp_path / "features.h5")}
    demo["set"]["data"] |= {**place, "workers": 2}
    both = {"schedule": "difficulty_sampling", "weighting": "gradnorm"}
    demo |= {"name": "comic", "grid": {"method": ["equal", both]}}
    (tmp_path / "comic.yaml").write_text(yaml.safe_dump(demo))
    grid = read_grid(tmp_path / "comic.yaml")

    undisturbed = SlurmSweep(submit(grid, tmp_path / "undisturbed", "slurm", print))
    undisturbed.wait(lambda status: status.state in ("done", "failed"), "the end", 900)
    assert undisturbed.states() == {"done"}, undisturbed.statuses()
    preempted = SlurmSweep(submit(grid, tmp_path / "preempted", "slurm", print))
    for number in (1, 2):
        preempted.wait(lambda status, n=number: status.attempt == n and status.epoch >= 2 * n - 1, "training", 600)
        slurm.ask("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        preempted.wait(lambda status: status.state == "queued", "the runs to save", 60)
        for job in preempted.submitted.job_ids:
            slurm.release(job)
    preempted.wait(lambda status: status.state in ("done", "failed"), "the end", 900)
    assert preempted.states() == {"done"}, preempted.statuses()
    for run in preempted.sweep.runs():
        history = read_history(run.history)
        begun = [attempt["step"] for attempt in history["info"]["attempts"]]
        per_epoch = history["series"]["train/total_loss"]["step"][-1] / demo["set"]["epochs"]
        assert len(begun) == 3
        assert any(step % per_epoch for step in begun[1:]), "it was never stopped in mid-epoch"
        assert_same(read_history(undisturbed.sweep.run(run.name).history)["series"], history["series"])
