"""`status` is right about runs that train although their submission was not noted, without a worker, or silently."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.handmade import add_runs, at_epoch, local_job, new_sweep, wait_for

from mtlcluster.cli import app
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.launch.submit import submit
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.status import ENDED

HERE = os.uname().nodename
CORES = len(os.sched_getaffinity(0))
LINES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "the end torn": lambda begin, end: begin + end[:-30],
    "the end torn after its first letter": lambda begin, end: begin + end[:1],
    "the end lost": lambda begin, end: begin,
    "no text in the end": lambda begin, end: begin + end[:40] + b"\xe9\x00" + end[40:],
    "the end of another type": lambda begin, end: begin + b'{"event": "end", "submission": "0001", "jobs": 5}\n',
    "ids lost": lambda begin, end: begin + b'{"event": "end", "submission": "0001", "jobs": []}\n',
    "the begin torn": lambda begin, end: begin[:50] + b"\n" + end,
    "all lost": lambda begin, end: b"",
}


def look(sweep: Sweep) -> dict[str, RunStatus]:
    """The states, by the word in the run's name."""
    return {run.run.removeprefix("path=").partition("-")[0]: run for run in observe([sweep])}


@pytest.mark.usefixtures("fake_child")
def test_a_run_that_trains_is_running_whatever_became_of_the_lines_about_it(project, make_grid, submit_locally):
    grid = make_grid(grid={"data.path": ["endless", "fine"]}, resources={"cpus": CORES})
    sweep = submit_locally(grid)
    sweep.wait("endless", "running")
    path = sweep.sweep.submissions
    begin, end = path.read_bytes().splitlines(keepends=True)
    [job] = sweep.submitted.job_ids
    for what, lines in LINES.items():
        path.write_bytes(lines(begin, end))
        found = look(sweep.sweep)
        assert (found["endless"].state, found["endless"].job_id) == ("running", job), what
        if lines(begin, end).startswith(begin):  # who else is in that job is known
            assert (found["fine"].state, found["fine"].job_id) == ("queued", job), what
            assert submit(grid, project / "runs", "local", print).submitted == [], what
            assert [s.job_ids for s in submissions.read(path)] == [[job]]
            assert submissions.read(path)[0].told_by_runs is False, "what was lost is written again"
    path.write_bytes(begin + end[:-30])
    status = CliRunner().invoke(app, ["status", "sweep", "--runs", str(project / "runs")])
    assert "1 running, 1 queued of 2" in status.stdout
    assert "never submitted" not in status.stdout
    cancel = CliRunner().invoke(app, ["cancel", "sweep", "--yes", "--runs", str(project / "runs")])
    assert "cancelled 2 runs of sweep" in cancel.stdout
    wait_for(lambda: {run.state for run in look(sweep.sweep).values()} == {"cancelled"})
    path.write_bytes(begin + end[:-30])  # and once more, with all of them cancelled
    retry = CliRunner().invoke(app, ["retry", "sweep", "--runs", str(project / "runs")])
    assert "submitted 2 runs of sweep in 1 job" in retry.stdout, retry.output
    last = submissions.read(path)[-1]
    assert (last.id, last.accepted) == ("0002", True)
    wait_for(lambda: look(sweep.sweep)["endless"].state == "running")
    content = path.read_bytes()
    path.write_bytes(content[:-30])  # of the retry; the job of the first submission is dead
    assert (look(sweep.sweep)["endless"].state, look(sweep.sweep)["endless"].job_id) == ("running", last.job_ids[0])


@pytest.mark.usefixtures("fake_child")
@pytest.mark.parametrize("what", ["torn", "absent", "a folder"])
def test_a_submission_without_its_end_and_a_damaged_status(project, make_grid, submit_locally, what):
    grid = make_grid(grid={"data.path": ["fine"]})
    sweep = submit_locally(grid)
    sweep.wait("fine", "done")
    wait_for(lambda: not Path("/proc", str(sweep.worker)).exists() or os.waitpid(sweep.worker, os.WNOHANG))
    begin, _ = sweep.sweep.submissions.read_bytes().splitlines(keepends=True)
    sweep.sweep.submissions.write_bytes(begin)
    run = sweep.sweep.runs()[0]
    run.status.unlink()
    if what == "torn":
        run.status.write_text('{"format": 1, "state": "do')
    elif what == "a folder":
        run.status.mkdir()
    result = CliRunner().invoke(app, ["submit", str(grid.path), "--cluster", "local", "--runs", str(project / "runs")])
    assert (result.exit_code, result.exception) == (0, None), result.output
    assert "submitted 1 run of sweep" in result.stdout
    assert submissions.read(sweep.sweep.submissions)[-1].id == "0002"
    sweep.worker = int(submissions.read(sweep.sweep.submissions)[-1].job_ids[0].split(":")[2])
    if what != "a folder":  # in which no worker can write
        wait_for(lambda: look(sweep.sweep)["fine"].state == "done")


@pytest.mark.usefixtures("fake_child")
def test_a_run_whose_worker_was_killed_is_not_lost_while_its_process_lives(project, make_grid, submit_locally):
    sweep = submit_locally(make_grid(grid={"data.path": ["never-ready"]}))
    sweep.wait("never-ready", "running")
    run = sweep.sweep.runs()[0]
    [child] = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if str(run.folder) in read(p)]
    os.kill(sweep.worker, signal.SIGKILL)
    os.waitpid(sweep.worker, 0)
    try:
        [found] = observe([sweep.sweep])
        assert (found.state, found.verified) == ("running", True)
        assert "its training process is still alive: it saves and ends by itself" in found.notes[-1]
        run.status.write_text("torn")
        assert observe([sweep.sweep])[0].state == "running"
        result = CliRunner().invoke(app, ["retry", "sweep", "--runs", str(project / "runs")])
        assert "nothing to retry" in result.output
    finally:
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: observe([sweep.sweep])[0].state == "lost")
    assert observe([sweep.sweep])[0].error.startswith("status.json can't be read: ")


def read(cmdline: Path) -> str:
    try:
        return cmdline.read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("host", "heartbeat", "file", "silent", "words"),
    [
        (HERE, 0, 0, False, ""),
        (HERE, 119, 0, False, ""),
        (HERE, 4000, 4000, True, "no heartbeat for 4000 s: its worker or "),
        (HERE, 4000, 0, True, "no heartbeat for 4000 s"),  # this machine's own clock is right
        ("n1", 4000, 4000, True, "its worker or n1 hangs or sleeps, or the disk is full"),
        ("n1", 4000, 5, True, "does the clock of n1 differ?"),
        ("n1", -4000, 5, False, ""),  # a clock that is ahead
        ("n1", -4000, 5000, True, "no heartbeat for 5000 s"),
    ],
)
def test_running_with_an_old_heartbeat_is_marked(tmp_path, host, heartbeat, file, silent, words):
    sweep, now = new_sweep(tmp_path), time.time()
    add_runs(sweep, local_job(os.getpid()), {"run-1": at_epoch(3, host=host, heartbeat=now - heartbeat)})
    os.utime(sweep.run("run-1").status, (now - file, now - file))
    result = CliRunner().invoke(app, ["status", "digits", "--runs", str(tmp_path)])
    assert ("running!" in result.stdout) == silent
    assert words in result.stdout
    shown = CliRunner().invoke(app, ["status", "--json", "--runs", str(tmp_path)])
    [run] = json.loads(shown.stdout)["runs"]
    assert run["state"] == "running"
    assert (run["silent"] > 120) == silent == bool(run["notes"])


def test_on_slurm_a_torn_line_neither_hides_nor_stops_a_job(slurm, project, make_grid, submit_to_slurm):
    settings = {"epochs": 6, "model": {"slow": 0.1}, "batch_size": 50}
    grid = make_grid(grid={"seed": {"range": 3}}, set=settings, resources={"cpus": 4})  # of which two have room
    sweep = submit_to_slurm(grid)
    path, jobs = sweep.sweep.submissions, sweep.submitted.job_ids
    wait_for(lambda: (status := sweep.statuses()[0]).state == "running" and status.epoch >= 1, 60)
    begin, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(begin + end[:-12])
    assert {(found.job_id, found.state in ("queued", "running", "done")) for found in observe([sweep.sweep])} == {
        (job, True) for job in jobs
    }
    job = observe([sweep.sweep])[0].job_id
    slurm.ask("scontrol", "requeue", job)  # its worker reads those lines anew
    slurm.release(job)
    path.write_bytes(begin + end[:-12])
    sweep.wait_until_done()
    assert {status.attempt for status in sweep.statuses()[1:]} == {1}
    assert sweep.statuses()[0].attempt == 2
    path.write_bytes(begin + end[:-12])
    assert submit(grid, project / "runs", "slurm", print).submitted == []
    wait_for(lambda: slurm.jobs() == {})
    assert submissions.read(path)[0].job_ids == jobs
    assert all(status.state in ENDED for status in sweep.statuses())
