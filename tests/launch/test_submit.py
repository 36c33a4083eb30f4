"""What `submit` writes and refuses. The fake child trains the runs, on this machine."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest
import yaml

from mtlcluster.config.run import read_run_config, run_hash
from mtlcluster.errors import UserError
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.submit import submit
from mtlcluster.sweep import submissions

pytestmark = pytest.mark.usefixtures("fake_child")

AWKWARD = {"weighting": {"name": "static", "weights": {"a": 1e-05, "b": 2.0, "c": 1.0}}, "gradient": "pcgrad"}


def everything(folder):
    """Every file below `folder` with its content, without the files that Python writes when a worker starts."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in files}


def test_a_runs_file_says_everything_and_keeps_its_identity(make_grid, submit_locally):
    texts = ["1e-3", "on", "0x1F", "~", "1:30", "a: b", "été"]
    grid = make_grid(grid={"data.path": texts, "method": ["equal", AWKWARD]}, set={"steps": 7})
    sweep = submit_locally(grid).sweep
    assert len(sweep.runs()) == 14
    for run in sweep.runs():
        config = read_run_config(run.config)
        assert run.name.endswith(run_hash(config))
        assert config.origin.code == next(sweep.code.iterdir()).name
    assert yaml.safe_load(sweep.grid.read_text())["name"] == "sweep"


def test_again_adds_only_what_is_new_and_trains_nothing_twice(project, make_grid, submit_locally):
    first = submit_locally(make_grid(grid={"data.path": ["fine"], "seed": [0]}))
    first.wait("fine-seed=0", "done")
    grown = submit_locally(
        make_grid(grid={"data.path": ["fine", "fails"], "seed": [0, 1]}, resources={"time": "2h"})
    ).submitted
    assert grown.left == {"done": [first.run("fine-seed=0")]}
    assert len(grown.new) == len(grown.submitted) == 3
    for part in ("fails-seed=0", "fails-seed=1", "path=fine-seed=1"):
        first.wait(part, "done", "failed")
    assert first.status("path=fine-seed=0").attempt == 1
    # A failed run is left alone, but takes over the new resources for its retry.
    again = submit(
        make_grid(grid={"data.path": ["fine", "fails"], "seed": [0, 1]}, resources={"cpus": 2}),
        project / "runs",
        "local",
        print,
    )
    assert (again.submitted, sorted(map(len, again.left.values()))) == ([], [2, 2])
    assert read_run_config(first.sweep.run(first.run("fails-seed=0")).config).resources.cpus == 2
    assert read_run_config(first.sweep.run(first.run("path=fine-seed=1")).config).resources.cpus == 1


def test_the_snapshot_is_what_runs_whatever_happens_to_the_code_later(project, make_grid, submit_locally):
    (project / "jobs" / "data.bin").write_bytes(b"no code")
    (project / "jobs" / "big.json").write_bytes(b" " * (2**20 + 1))
    subprocess.run(["git", "init", "-q", "-b", "trunk", project], check=True)
    subprocess.run(["git", "-C", project, "add", "."], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", project, *identity, "commit", "-qm", "first"], check=True)
    with open(project / "jobs" / "tiny.py", "a") as job:
        job.write("# changed\n")
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]})).sweep
    [code] = sweep.code.iterdir()
    assert "# changed" in (code / "jobs" / "tiny.py").read_text()
    assert (code / "mtlcluster" / "_entry.sh").is_file()
    assert not (code / "jobs" / "data.bin").exists()
    assert not (code / "jobs" / "big.json").exists()
    assert "branch: trunk\nstate: changed" in (code / "commit.txt").read_text()
    assert "+# changed" in (code / "diff.patch").read_text()
    before = everything(code)
    submit_locally(make_grid(grid={"data.path": ["fine", "again"]}))  # the same content is kept once
    (project / "jobs" / "tiny.py").write_text((project / "jobs" / "tiny.py").read_text() + "# once more\n")
    submit_locally(make_grid(grid={"data.path": ["fine", "again", "third"]}))
    assert len(list(sweep.code.iterdir())) == 2
    assert {path: content for path, content in everything(code).items() if path.suffix != ".pyc"} == before


def test_a_dry_run_writes_nothing_anywhere(project, make_grid):
    grid = make_grid(grid={"seed": {"range": 3}})
    before = everything(project.parent)
    text = preview(grid, project / "runs", "local")
    assert all(run.name in text for run in grid.runs)
    assert everything(project.parent) == before


def test_one_name_for_two_jobs_is_refused(project, make_grid, submit_locally):
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]})).sweep
    (project / "jobs" / "other.py").write_text((project / "jobs" / "tiny.py").read_text())
    before = everything(sweep.folder / "code") | {sweep.grid: sweep.grid.read_bytes()}
    with pytest.raises(UserError, match=r"is a sweep of job jobs/tiny.py:build, this grid is of jobs/other.py:build"):
        submit(make_grid(job="other", grid={"seed": [5]}), project / "runs", "local", print)
    assert everything(sweep.folder / "code") | {sweep.grid: sweep.grid.read_bytes()} == before


def test_a_folder_that_cannot_be_written_is_one_message(project, make_grid):
    (project / "runs").write_text("a file in the way")
    with pytest.raises(UserError, match=r"runs.*can't be written"):
        submit(make_grid(grid={"seed": [0]}), project / "runs", "local", print)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_message_and_the_next_try_succeeds(project, make_grid, submit_locally):
    runs = project / "runs"
    runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "small", runs], check=True)
    try:
        grid = make_grid(grid={"data.path": ["fine"], "seed": {"range": 3}})
        filler, sweep, messages = runs / "filler", None, []
        filler.write_bytes(b"x" * 3 * 2**20)
        while sweep is None:  # with a little more room each time: full at the lock, the code, the runs, …
            os.truncate(filler, filler.stat().st_size - 8 * 1024)
            try:
                sweep = submit_locally(grid)
            except UserError as error:
                messages.append(str(error))
                assert not list(runs.glob("**/.new"))
        filler.unlink()
        assert len(messages) > 10
        assert all("the disk is full" in message for message in messages)
        assert len(sweep.sweep.runs()) == 3
        for run in sweep.sweep.runs():
            sweep.wait(run.name, "done")
        os.waitpid(sweep.worker, 0)
    finally:
        subprocess.run(["umount", "-l", runs], check=True)


def test_more_gpus_than_there_are_is_refused(project, make_grid, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match=r"resources.gpus is 2, this machine has 1"):
        submit(make_grid(grid={"seed": [0]}, resources={"gpus": 2}), project / "runs", "local", print)
    assert not (project / "runs").exists()


def test_a_retry_asks_for_the_gpus_that_the_grid_asks_for_now(project, make_grid, submit_locally, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    failing = {"include": [{"data.path": "fails", "resources.cpus": 1}]}
    sweep = submit_locally(make_grid(**failing, resources={"gpus": 1}))
    sweep.wait("", "failed")
    asked = {"gpus": {"type": "a100", "count": 2}, "cpus": 4}
    submit(make_grid(**failing, resources=asked), project / "runs", "local", print)
    resubmit(sweep.sweep, [sweep.run("")], restart=False, say=print)
    resources = read_run_config(sweep.sweep.runs()[0].config).resources
    assert (resources.model_dump()["gpus"], resources.gpu_count, resources.cpus) == (asked["gpus"], 2, 1)


def test_the_runs_go_on_when_submit_and_its_terminal_are_gone(project, make_grid, submit_locally):
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]}))
    assert os.getsid(sweep.worker) == sweep.worker != os.getsid(0)
    sweep.wait("fine", "running")
    os.kill(sweep.worker, signal.SIGHUP)
    sweep.wait("fine", "done")


def test_the_worker_of_a_killed_submit_trains_nothing_and_the_next_completes_it(project, make_grid, submit_locally):
    grid = make_grid(grid={"data.path": ["fine"]})
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mtlcluster.config.grid import read_grid\n"
        "from mtlcluster.launch.executors import local\n"
        "from mtlcluster.launch.submit import submit\n"
        "local.local_job_id = lambda pid: (print(pid, flush=True), os.kill(os.getpid(), signal.SIGKILL))\n"
        "submit(read_grid(Path(sys.argv[1])), Path(sys.argv[2]), 'local', print)\n"
    )
    command = [sys.executable, "-c", program, grid.path, project / "runs"]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    sweep = submit_locally(grid)
    sweep.wait("fine", "done")
    assert sweep.status().attempt == 1
    assert [s.accepted for s in submissions.read(sweep.sweep.submissions)] == [False, True]
    log = sweep.sweep.submission_folder("0001") / "worker.log"
    deadline = time.monotonic() + 10
    while "was not completed" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_restarted_from_scratch_a_run_has_the_code_of_today(project, make_grid, submit_locally):
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]}))
    old = sweep.wait("fine", "done")
    run = sweep.sweep.runs()[0]
    run.checkpoints.mkdir()
    run.cancel.write_text("")
    with open(project / "jobs" / "tiny.py", "a") as job:
        job.write("# changed\n")
    resubmit(sweep.sweep, [run.name], restart=True, say=print)
    assert not run.checkpoints.exists()
    while (now := sweep.status()) is None or now.state != "done":
        time.sleep(0.05)
    assert (now.attempt, now.submission, old.submission) == (1, "0002", "0001")
    code = read_run_config(run.config).origin.code
    assert "# changed" in (sweep.sweep.code / code / "jobs" / "tiny.py").read_text()


def test_slots_are_the_users_own(project, make_grid, submit_locally):
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]}))
    sweep.wait("fine", "done")
    slots = project.parent / "TMPDIR" / f"mtlcluster-{os.getuid()}"
    assert stat.S_IMODE(slots.stat().st_mode) == 0o700
