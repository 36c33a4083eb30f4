"""The command as a process: start-up, exit codes, messages, and the way from `submit` to `retry`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.handmade import add_runs, at_epoch, local_job, new_sweep, wait_for

from mtlcluster.cli import app
from mtlcluster.launch.hand_over import Submitted
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.remote import dispatch
from mtlcluster.sweep.folder import Sweep

ROOT = Path(__file__).parents[1]


def start(*arguments: object, python: tuple[str, ...] = (), **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, *python, "-m", "mtlcluster", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def run(*arguments: object, **options: object) -> tuple[int, str, str]:
    process = start(*arguments, **options)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("verb", [["--help"], ["status"], ["status", "--json"], ["logs", "digits"]])
def test_starts_without_anything_heavy(tmp_path, verb):
    sweep = new_sweep(tmp_path)
    add_runs(sweep, local_job(os.getpid()), {"run-1": at_epoch(3)})
    sweep.run("run-1").log.touch()
    options = [] if verb == ["--help"] else ["--runs", tmp_path]
    code, _, imported = run(*verb, *options, python=("-X", "importtime"))
    modules = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert code == 0
    assert "mtlcluster.cli" in modules
    assert not modules & {"torch", "numpy", "submitit", "matplotlib", "yaml", "pydantic", "mtlcluster.config.run"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "digit"], "no sweep 'digit' in {runs}; did you mean 'digits'?"),
        (["collect", "nothing"], "no sweep 'nothing' in {runs} (known: digits)"),
        (["submit", "missing.yaml"], "missing.yaml: No such file or directory"),
        (["submit", "grid.yaml"], "grid.yaml:3: unknown key 'gird'; did you mean 'grid'?"),
        (["train", "grid.yaml"], "grid.yaml:1: unknown key 'name'"),
        (["status", "--watch"], "--watch needs a terminal; without one, repeat `mtlcluster status`"),
        (["status", "--watch", "--json"], "--json and --watch don't go together"),
        (["evaluate", ""], "expected the name of a run, found nothing"),
        (
            ["evaluate", "./digits/"],
            "./digits/ is not the folder of a run: it has no config.yaml; name a run, or SWEEP/RUN",
        ),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(tmp_path, monkeypatch, arguments, message):
    runs = tmp_path / "runs"
    monkeypatch.setenv("MTLCLUSTER_RUNS", str(runs))
    new_sweep(runs)
    (tmp_path / "grid.yaml").write_text("name: x\njob: x\ngird: {seed: [0]}\n")
    (tmp_path / "digits").mkdir()
    code, stdout, stderr = run(*arguments, cwd=tmp_path)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("mtlcluster: " + message.format(runs=runs)), stderr
    assert stderr.count("\n") == 1


def test_usage_errors_exit_with_2_and_bugs_show_their_traceback(tmp_path, monkeypatch):
    assert run("status", "--nonsense")[0] == 2
    monkeypatch.setattr("mtlcluster.remote.all_runs.AllRuns.observe", lambda self: 1 / 0)
    result = CliRunner().invoke(app, ["status", "--runs", str(tmp_path)])
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--runs", "~nobody-here/x"], "'--runs': there is no home of ~nobody-here"),
        (["status", "--runs", ""], "'--runs': expected a path, found nothing"),
        (["evaluate", "run-1", "--out", "."], "'--out': File '.' is a directory"),
        (["train", "c.yaml", "--folder", __file__], f"'--folder': Directory '{__file__}' is a file"),
    ],
)
def test_an_impossible_path_is_refused(arguments, message):
    code, _, stderr = run(*arguments)
    assert (code, message in stderr) == (2, True), stderr


def test_a_tilde_that_the_shell_does_not_expand_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    add_runs(new_sweep(tmp_path / "mine"), "local:x:1:1", {"run-1": at_epoch(20, "done")})
    assert "run-1" in run("status", "--runs=~/mine")[1]


def test_a_closed_pipe_is_quiet(tmp_path):
    runs = {f"run-{i}": at_epoch(2, "failed", error="x" * 5000) for i in range(40)}  # more than a pipe holds
    add_runs(new_sweep(tmp_path), "local:x:1:1", runs)
    process = start("status", "--runs", tmp_path)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait(timeout=30)


def test_the_runs_folder_comes_from_the_option_or_the_environment(tmp_path, monkeypatch):
    add_runs(new_sweep(tmp_path / "mine"), "local:x:1:1", {"run-1": at_epoch(20, "done")})
    monkeypatch.chdir(tmp_path)
    assert "runs holds no runs yet" in CliRunner().invoke(app, ["status"]).stdout
    assert "mtlcluster collect digits --runs mine" in CliRunner().invoke(app, ["status", "--runs", "mine"]).stdout
    monkeypatch.setenv("MTLCLUSTER_RUNS", "mine")
    assert CliRunner().invoke(app, ["status"]).stdout.endswith("mtlcluster collect digits\n")


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("lost", 1), ("cancelled", 0)])
def test_wait_ends_with_1_if_a_run_failed(tmp_path, make_grid, monkeypatch, state, code):
    monkeypatch.chdir(tmp_path)
    sweep = new_sweep(tmp_path / "runs")
    last_word = at_epoch(3, "running" if state == "lost" else state, error="boom")
    add_runs(sweep, f"local:{os.uname().nodename}:1:5", {"run-1": at_epoch(20, "done"), "run-2": last_word})
    result = Submitted(sweep, "local", new=["run-2"], there=["run-1"], submitted=["run-2"], job_ids=["1"])
    monkeypatch.setattr(dispatch, "submit_to", lambda *_: result)
    grid = make_grid(grid={"seed": [0, 1]})
    outcome = CliRunner().invoke(app, ["submit", str(grid.path), "--cluster", "local", "--wait"])
    assert outcome.exit_code == code, outcome.output
    assert "submitted 1 run of digits in 1 job on local\n" in outcome.stdout
    assert "1 of 2 runs are already there\n" in outcome.stdout
    assert ("failed: run-2: boom\n" in outcome.stdout) == (state == "failed")
    assert ("mtlcluster logs digits run-2" in outcome.stdout) == (code == 1)


def test_from_submit_by_way_of_ctrl_c_and_cancel_to_retry(project, make_grid):
    grid = make_grid(grid={"seed": [0]}, set={"epochs": 500, "model.slow": 0.02}, cluster="local")
    runs = project / "runs"

    def the_run() -> RunStatus:
        [found] = observe([Sweep(runs / "sweep")])
        return found

    process = start("submit", grid.path, "--runs", runs, "--wait", stdin=subprocess.DEVNULL)
    wait_for(lambda: Sweep(runs / "sweep").runs() and the_run().state == "running" and the_run().epoch > 0, 60)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "")
    assert f"the runs go on; to look at them: mtlcluster status sweep --runs {runs}\n" in stdout
    assert the_run().state == "running"
    try:
        assert run("cancel", "sweep", "--yes", "--runs", runs)[0] == 0
        wait_for(lambda: the_run().state == "cancelled")
        code, stdout, _ = run("retry", "sweep", "--runs", runs)
        assert (code, stdout.splitlines()[0]) == (0, "submitted 1 run of sweep in 1 job on local")
        assert the_run().state in ("queued", "running")
        assert the_run().epoch > 0
    finally:
        run("cancel", "sweep", "--yes", "--runs", runs)
        wait_for(lambda: the_run().state in ("cancelled", "lost"))


def test_methods_lists_all_of_them_and_explains_one():
    listed = CliRunner().invoke(app, ["methods"]).stdout
    for words in ("schedule:", "weighting:", "gradient:", "pcgrad", "Gradient Surgery", "alpha = 1.5", "weights ("):
        assert words in listed
    one = CliRunner().invoke(app, ["methods", "gradnorm"]).stdout
    assert "alpha: number ≥ 0, default 1.5" in one
    assert "method: {weighting: {name: gradnorm, alpha: 1.5, lr: 0.025, layer: used_last}}" in one
    wrong = CliRunner().invoke(app, ["methods", "gradnrom"])
    assert (wrong.exit_code, wrong.stderr) == (2, "mtlcluster: no method 'gradnrom'; did you mean 'gradnorm'?\n")
