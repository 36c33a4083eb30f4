"""The worker with a child that keeps the protocol and trains nothing: real processes, signals and files."""

import json
import os
import re
import signal
import time

import pytest

from mtlcluster.launch.executors import local
from mtlcluster.launch.retry import resubmit
from mtlcluster.processes.local_job_id import local_job_id
from mtlcluster.sweep import submissions
from mtlcluster.worker.slots import JobRoom, Machine

pytestmark = pytest.mark.usefixtures("fake_child")


def behaving(make_grid, *words, name="sweep", **keys):
    return make_grid(name, grid={"data.path": list(words)}, **keys)


def spans(sweep):
    """When each run began and ended."""
    logs = [sweep.log(run.name) for run in sweep.sweep.runs()]
    return [tuple(float(re.search(rf"{word} ([\d.]+)", log)[1]) for word in ("begin", "end")) for log in logs]


def most_at_once(times):
    return max(sum(begin <= moment < end for begin, end in times) for moment, _ in times)


def test_every_run_ends_in_its_own_way_and_a_failure_fails_the_job(make_grid, submit_locally):
    sweep = submit_locally(behaving(make_grid, "fine", "fails", "killed", "import-error"))
    done = sweep.wait("fine", "done")
    assert (done.epoch, done.epochs, done.step, done.latest) == (3, 3, 30, {"train/a/loss": 1 / 3})
    assert sweep.wait("fails", "failed").error == "ValueError: the loss of task a is no number"
    killed = sweep.wait("killed", "failed").error
    assert "signal 9 (SIGKILL)" in killed
    assert "out of memory? It asks for 500M" in killed
    assert "ModuleNotFoundError: No module named 'no_such_module'" in sweep.wait("import-error", "failed").error
    _, status = os.waitpid(sweep.worker, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_the_child_gets_its_share_and_no_signals(make_grid, submit_locally, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    sweep = submit_locally(behaving(make_grid, "fine", "also-fine", resources={"cpus": 2}))
    sweep.wait("=fine", "done")
    seen = json.loads(re.search(r"seen (.*)", sweep.log("=fine"))[1])
    [code] = sweep.sweep.code.iterdir()
    assert seen == {
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "cwd": code.name,
        "ignored": ["USR2", "TERM", "INT"],
    }


def test_a_cancelled_run_stops_and_one_that_waits_never_starts(make_grid, submit_locally):
    cores = len(os.sched_getaffinity(0))
    sweep = submit_locally(behaving(make_grid, "endless", "fine", resources={"cpus": cores}))
    sweep.wait("endless", "running")
    for part in ("fine", "endless"):
        sweep.sweep.run(sweep.run(part)).cancel.write_text("")
    assert sweep.wait("endless", "cancelled").attempt == 1
    assert sweep.wait("fine", "cancelled").attempt == 0


def test_told_to_stop_twice_it_saves_once_and_leaves_the_runs_queued(make_grid, submit_locally):
    sweep = submit_locally(behaving(make_grid, "endless", "never-ready"))
    sweep.wait("endless", "running")
    while sweep.status("endless").epochs == 0:
        time.sleep(0.05)
    for number in (signal.SIGUSR2, signal.SIGUSR2, signal.SIGTERM):
        os.kill(sweep.worker, number)
    os.waitpid(sweep.worker, 0)
    assert sweep.status("endless").state == "queued"
    assert sweep.status("endless").stops_without_progress == 0
    assert (sweep.sweep.run(sweep.run("endless")).folder / "step").read_text() == "1"
    assert sweep.status("never-ready").state == "queued"


def test_without_progress_the_fifth_stop_is_the_last(make_grid, submit_locally):
    sweep = submit_locally(behaving(make_grid, "stubborn"))
    for attempt in (1, 2, 3, 4, 5):
        while (status := sweep.status()) is None or not (status.attempt == attempt and status.epochs):
            time.sleep(0.05)
        os.kill(sweep.worker, signal.SIGUSR2)
        os.waitpid(sweep.worker, 0)
        if attempt < 5:
            assert sweep.status().state == "queued"
            sweep.begin_again()
    assert sweep.status().state == "failed"
    assert "ask for more time" in sweep.status().error


def test_a_requeued_job_leaves_alone_what_has_ended_and_a_retry_begins_it_again(make_grid, submit_locally):
    sweep = submit_locally(behaving(make_grid, "fine", "fails"))
    for part in ("fine", "fails"):
        sweep.wait(part, "done", "failed")
    os.waitpid(sweep.worker, 0)
    sweep.begin_again()
    _, status = os.waitpid(sweep.worker, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert [sweep.status(part).attempt for part in ("fine", "fails")] == [1, 1]
    resubmit(sweep.sweep, [sweep.run("fails")], restart=False, say=print)
    while sweep.status("fails").attempt == 1 or sweep.status("fails").state != "failed":
        time.sleep(0.05)
    assert sweep.status("fails").submission == "0002"


def test_a_damaged_status_or_configuration_ends_no_other_run(make_grid, submit_locally):
    sweep = submit_locally(behaving(make_grid, "fine", "also-fine", "third"))
    for part in ("=fine", "also-fine", "third"):
        sweep.wait(part, "done")
    os.waitpid(sweep.worker, 0)
    for part, damaged in (("=fine", "status"), ("third", "config")):
        getattr(sweep.sweep.run(sweep.run(part)), damaged).write_text("}{")
        sweep.sweep.run(sweep.run("third")).status.unlink(missing_ok=True)
    submission = submissions.read(sweep.sweep.submissions)[0]
    submissions.append(sweep.sweep.submissions, "begin", "0002", cluster="local", code=submission.code,
                       jobs=submission.jobs)  # fmt: skip
    worker = local.start_worker(sweep.sweep, "0002", submission.code)
    submissions.append(sweep.sweep.submissions, "end", "0002", jobs=[local_job_id(worker)])
    os.waitpid(worker, 0)
    assert "started again" in sweep.wait("=fine", "done").notes[0]
    assert sweep.wait("also-fine", "done").submission == "0002"
    assert "could not be started" in sweep.wait("third", "failed").error


def test_one_run_is_never_trained_by_two_workers(make_grid, submit_locally):
    sweep = submit_locally(behaving(make_grid, "endless"))
    sweep.wait("endless", "running")
    first = sweep.worker
    sweep.begin_again()
    time.sleep(1.2)
    assert sweep.log().count("--- attempt") == 1
    os.kill(first, signal.SIGTERM)
    os.waitpid(first, 0)
    while sweep.log().count("--- attempt") == 1:
        time.sleep(0.05)
    os.kill(sweep.worker, signal.SIGTERM)


def test_all_sweeps_together_start_no_more_than_there_are_cores(make_grid, submit_locally):
    cores = len(os.sched_getaffinity(0))
    words = [f"fine-{i}" for i in range(cores + 1)]
    both = [submit_locally(behaving(make_grid, *words, name=name)) for name in ("one", "two")]
    for sweep in both:
        for word in words:
            sweep.wait(word, "done")
    times = [span for sweep in both for span in spans(sweep)]
    assert most_at_once(times) <= cores


def test_a_run_that_asks_for_more_than_the_machine_has_takes_it_whole_and_a_dead_worker_frees_it(
    make_grid, submit_locally
):
    cores = len(os.sched_getaffinity(0))
    sweep = submit_locally(behaving(make_grid, "endless", resources={"cpus": cores + 1}))
    assert f"more than the {cores} of this machine" in sweep.wait("endless", "running").notes[0]
    other = submit_locally(behaving(make_grid, "fine", name="other"))
    time.sleep(1)
    assert other.status("fine") is None
    os.kill(sweep.worker, signal.SIGKILL)
    other.wait("fine", "done", seconds=5)


def test_gpus_are_shared_out_without_overlap(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    mine, others = Machine(tmp_path), Machine(tmp_path)
    first, second = mine.take(1, 2), others.take(1, 1)
    assert (first.gpus, second.gpus) == (["4", "5"], ["6"])
    assert others.take(1, 1) is None
    first.free()
    assert others.take(1, 1).gpus == ["4"]
    job = JobRoom(at_once=2)
    shares = [job.take(1, 1), job.take(1, 1)]
    assert [share.gpus for share in shares] == [["4"], ["5"]]
    assert job.take(1, 1) is None
    shares[0].free()
    assert job.take(1, 1).gpus == ["4"]
