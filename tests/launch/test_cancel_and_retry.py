"""`cancel`, `retry` and `logs`: which runs the user means, what the user is asked, and what happens to the runs."""

import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.handmade import add_runs, at_epoch, fake_program, local_job, new_sweep

from mtlcluster.cli import app
from mtlcluster.launch import cancel, retry
from mtlcluster.launch.hand_over import Submitted
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.status import write_status

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Sweep:
    monkeypatch.setattr(cancel, "GRACE", 0.5)  # nobody is there to obey
    sweep = new_sweep(tmp_path)
    runs = {
        "equal-seed=0-aaaa": at_epoch(20, "done"), "equal-seed=1-bbbb": at_epoch(4), "pcgrad-seed=0-cccc": None,
        "pcgrad-seed=1-dddd": at_epoch(3, "failed", error="boom"), "pcgrad-seed=10-eeee": at_epoch(3, "cancelled"),
    }  # fmt: skip
    add_runs(sweep, local_job(os.getpid()), runs)
    return sweep


def call(sweep: Sweep, *arguments: str):
    return CliRunner().invoke(app, [*arguments, "--runs", str(sweep.folder.parent)])


def cancelled(sweep: Sweep) -> list[str]:
    return [run.name for run in sweep.runs() if run.cancel.exists()]


def test_cancel_tells_the_workers_of_runs_that_have_not_ended(sweep):
    result = call(sweep, "cancel", "digits", "--yes")
    assert result.exit_code == 0, result.output
    assert cancelled(sweep) == ["equal-seed=1-bbbb", "pcgrad-seed=0-cccc"]
    assert "2 runs will end within a minute" in result.stdout


def test_cancel_without_a_terminal_wants_yes(sweep):
    result = call(sweep, "cancel", "digits")
    assert result.exit_code == 2
    assert "Cancel 2 runs of digits? Say --yes" in result.stderr
    assert cancelled(sweep) == []


@pytest.mark.parametrize(("answer", "expected"), [(b"n\n", []), (b"y\n", ["pcgrad-seed=0-cccc"])])
def test_cancel_asks_on_a_terminal(sweep, answer, expected):
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "mtlcluster", "cancel", "digits", "cccc", "--runs", sweep.folder.parent]
    os.write(main, answer)
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, cwd=ROOT, timeout=30)
    os.close(main)
    os.close(terminal)
    assert "Cancel 1 run of digits? [y/N]" in done.stdout
    assert cancelled(sweep) == expected


@pytest.mark.parametrize("verb", ["cancel", "retry", "logs"])
@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("pcgrad", "'pcgrad' could mean 3 runs of digits:\n  pcgrad-seed=0-cccc\n  pcgrad-seed=1-dddd\n  pcgrad"),
        ("seed=2", "no run of digits has 'seed=2' in its name:\n  equal-seed=0-aaaa"),
    ],
)
def test_a_part_of_a_name_must_mean_one_run(sweep, verb, part, message):
    result = call(sweep, verb, "digits", part)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_name_without_its_hash_is_meant_before_those_that_have_it_in_them(sweep):
    call(sweep, "cancel", "digits", "pcgrad-seed=0", "--yes")
    assert cancelled(sweep) == ["pcgrad-seed=0-cccc"]
    add_runs(sweep, local_job(os.getpid()), {"gradnorm+pcgrad-seed=0-ffff": at_epoch(4)})
    result = call(sweep, "logs", "digits", "pcgrad-seed=0")
    assert "could mean" not in result.output
    assert "could mean 2 runs" in call(sweep, "logs", "digits", "pcgrad-seed=0-").stderr


@pytest.fixture
def resubmitted(monkeypatch) -> list[tuple[list[str], bool]]:
    calls = []

    def record(sweep, runs, restart, say):
        calls.append((runs, restart))
        return Submitted(sweep, "local", there=runs, submitted=runs, job_ids=["1"])

    monkeypatch.setattr(retry, "resubmit", record)
    return calls


def test_retry_takes_what_failed_was_lost_or_cancelled(sweep, resubmitted):
    add_runs(sweep, "local:" + os.uname().nodename + ":1:5", {"lost-seed=0-ffff": at_epoch(1)}, "0002")
    assert "submitted 3 runs of digits in 1 job on local" in call(sweep, "retry", "digits", "--yes").stdout
    assert "submitted 1 run of digits" in call(sweep, "retry", "digits", "dddd", "--restart", "--yes").stdout
    assert call(sweep, "retry", "digits", "--restart").exit_code == 2  # results would be lost: it asks
    assert resubmitted == [
        (["lost-seed=0-ffff", "pcgrad-seed=1-dddd", "pcgrad-seed=10-eeee"], False), (["pcgrad-seed=1-dddd"], True)
    ]  # fmt: skip


def test_retry_refuses_runs_that_have_no_need_of_it(sweep, resubmitted):
    result = call(sweep, "retry", "digits", "aaaa", "bbbb", "dddd")
    assert result.exit_code == 2
    assert "equal-seed=0-aaaa is done; --restart trains it from scratch" in result.stderr
    assert "equal-seed=1-bbbb is running; cancel it first" in result.stderr
    assert call(sweep, "retry", "digits", "aaaa", "--restart", "--yes").exit_code == 0
    assert resubmitted == [(["equal-seed=0-aaaa"], True)]


def test_slurm_that_refuses_to_cancel_is_quoted(tmp_path, monkeypatch):
    sweep = new_sweep(tmp_path / "runs")
    add_runs(sweep, "17_0", {"run-1": None})
    fake_program(tmp_path, monkeypatch, "squeue", "echo '17_0|PENDING|Priority'")
    fake_program(tmp_path, monkeypatch, "scancel", "echo 'scancel: error: Kill job error: Access denied' >&2; exit 1")
    result = call(sweep, "cancel", "digits", "--yes")
    assert result.exit_code == 1
    assert "scancel --quiet 17_0: scancel: error: Kill job error: Access denied" in result.stderr
    assert cancelled(sweep) == ["run-1"]


def test_logs_shows_the_end_of_the_only_running_run(sweep):
    log = sweep.run("equal-seed=1-bbbb").log
    log.write_text("".join(f"epoch {i} ✓\n" for i in range(20_000)))
    assert call(sweep, "logs", "digits").stdout.splitlines() == [f"epoch {i} ✓" for i in range(19_950, 20_000)]
    assert call(sweep, "logs", "digits", "bbbb", "--lines", "1").stdout == "epoch 19999 ✓\n"
    assert "pcgrad-seed=0-cccc has printed nothing: it is queued" in call(sweep, "logs", "digits", "cccc").stdout


def test_logs_asks_which_where_several_runs_could_be_meant(sweep):
    sweep.run("equal-seed=1-bbbb").status.unlink()
    add_runs(sweep, local_job(os.getpid()), {"extra-ffff": at_epoch(2, "failed")}, "0002")
    result = call(sweep, "logs", "digits")
    assert result.exit_code == 2
    assert "which run of digits?" in result.stderr
    assert result.stderr.count("(failed)") == 2


def test_logs_follows_until_the_run_ends(sweep):
    run = sweep.run("equal-seed=1-bbbb")
    run.log.write_text("first\n")

    def go_on() -> None:
        time.sleep(0.7)
        with open(run.log, "a") as log:
            log.write("last ✓\n")
        status = at_epoch(20, "done", submission="0001")
        write_status(run.status, status)

    worker = threading.Thread(target=go_on)
    worker.start()
    assert call(sweep, "logs", "digits", "bbbb", "-f").stdout == "first\nlast ✓\n"
    worker.join()
