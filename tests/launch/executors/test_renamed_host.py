"""Local runs after the host was renamed or started again, or seen from another container: living runs are left alone,
others are lost and can be retried."""

import errno
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rig.handmade import add_runs, at_epoch, new_sweep
from rig.slurm_cluster import wait_for

from mtlcluster.launch.run_status import observe
from mtlcluster.processes.local_job_id import local_job_id
from mtlcluster.sweep.locks import is_locked

ROOT = Path(__file__).parents[3]
HOUR = 3600
OTHER_BOOT = "local:00000000-1111-2222-3333-444444444444:4000000:12345"


@pytest.fixture
def elsewhere(tmp_path):
    """Calls mtlcluster under another host name and, if told, in another container (pids of its own) or another boot."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("namespaces of one's own need root and unshare")

    def call(*arguments, container=False, boot=False):
        (tmp_path / "boot").write_text("99999999-aaaa-bbbb-cccc-dddddddddddd\n")
        mount = f"mount --bind {tmp_path}/boot /proc/sys/kernel/random/boot_id; " if boot else ""
        command = shlex.join([sys.executable, "-m", "mtlcluster", *arguments])
        spaces = ["--uts", "--mount", *(["--pid", "--fork", "--mount-proc"] if container else [])]
        done = subprocess.run(
            ["unshare", *spaces, "sh", "-c", f"hostname renamed; {mount}exec {command}"],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout + done.stderr

    return call


def look(answer):
    return {run["run"].partition("-")[0]: (run["state"], run["verified"]) for run in json.loads(answer)["runs"]}


def age(found, seconds):
    """Makes everything that was written about the sweep's runs older by so much."""
    sweep = found.sweep
    lines = [json.loads(line) for line in sweep.submissions.read_text().splitlines()]
    sweep.submissions.write_text("".join(json.dumps({**line, "time": line["time"] - seconds}) + "\n" for line in lines))
    for run in sweep.runs():
        if run.status.exists():
            status = json.loads(run.status.read_text())
            run.status.write_text(json.dumps({**status, "heartbeat": status["heartbeat"] - seconds}))


def kill(found):
    """Kills the worker and what it has started, as a machine does that goes down."""
    os.kill(found.worker, signal.SIGKILL)
    os.waitpid(found.worker, 0)
    wait_for(lambda: not any(is_locked(run.lock) for run in found.sweep.runs()), "the children to end")


@pytest.mark.usefixtures("fake_child")
def test_alive_or_not_is_seen_under_any_name_and_a_lost_run_is_retried(make_grid, submit_locally, elsewhere, project):
    cores = len(os.sched_getaffinity(0))
    grid = make_grid(grid={"data.path": ["endless", "fine"]}, resources={"cpus": cores})  # one waits
    found = submit_locally(grid)
    found.wait("endless", "running")
    at = ["--runs", str(project / "runs")]
    alive = {"path=endless": ("running", True), "path=fine": ("queued", True)}
    for place in ({}, {"container": True}, {"boot": True}, {"container": True, "boot": True}):
        assert look(elsewhere("status", "sweep", "--json", *at, **place)) == alive, place
    assert "cancel it first" in elsewhere("retry", "sweep", "endless", *at, boot=True)
    kill(found)
    lost = {"path=endless": ("lost", True), "path=fine": ("lost", True)}
    for place in ({}, {"container": True}):
        assert look(elsewhere("status", "sweep", "--json", *at, **place)) == lost, place
    age(found, HOUR)
    assert look(elsewhere("status", "sweep", "--json", *at, boot=True)) == lost
    assert "submitted 1 run" in elsewhere("retry", "sweep", "fine", *at)
    found.wait("fine", "done", seconds=90)  # real training: the code is taken anew


@pytest.fixture
def without_locks(monkeypatch):
    """A file system such as Lustre without -o flock."""

    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("job", [OTHER_BOOT, "local:another-host:4000000:12345"], ids=["boot", "host, as it was noted"])
@pytest.mark.parametrize(
    ("silent_for", "expected"), [(0, ("running", False)), (HOUR, ("lost", True))], ids=["it writes", "it is silent"]
)
def test_without_locks_another_machine_is_believed_as_long_as_it_writes(
    tmp_path, without_locks, job, silent_for, expected, monkeypatch
):
    sweep = new_sweep(tmp_path)
    now = time.time()
    with monkeypatch.context() as earlier:
        earlier.setattr(time, "time", lambda: now - HOUR)  # when they were submitted
        add_runs(sweep, job, {"waits": None, "trains": at_epoch(3, heartbeat=now - silent_for)})
    found = {run.run: (run.state, run.verified) for run in observe([sweep])}
    assert found == {"trains": expected, "waits": ("queued", False) if expected[0] == "running" else ("lost", True)}


def test_a_process_that_was_noted_by_the_hosts_name_is_still_known_by_it(tmp_path):
    sweep = new_sweep(tmp_path)
    by_name = f"local:{os.uname().nodename}:" + local_job_id(os.getpid()).split(":", 2)[2]
    add_runs(sweep, by_name, {"run": at_epoch(3)})
    assert [(run.state, run.verified) for run in observe([sweep])] == [("running", True)]
