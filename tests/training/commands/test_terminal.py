"""`mtlcluster train`: one run in this terminal."""

import os
import signal
import subprocess
import sys

import pytest
from rig.tiny_runs import PROJECT, assert_same

from mtlcluster.config.run import RunConfig
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.sweep.history import read_history
from mtlcluster.training.commands.terminal import _read_for


@pytest.fixture
def start(tmp_path):
    """Starts `mtlcluster train` on a configuration of the tiny job."""

    def start(folder, settings):
        config = tmp_path / "run.yaml"
        job = PROJECT / "jobs/tiny.py"
        config.write_text(f"job: {job}:build\n{settings}\n")
        command = [sys.executable, "-m", "mtlcluster", "train", str(config), "--folder", str(tmp_path / folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": str(PROJECT.parents[2])})  # fmt: skip

    return start


def test_ctrl_c_saves_and_the_same_command_goes_on_exactly(start, tmp_path):
    settings = "epochs: 12\nmodel: {slow: 0.01}\ndata: {metrics: false}"
    whole = start("whole", settings)
    stopped = start("stopped", settings)
    for line in stopped.stdout:
        if line.startswith("epoch"):  # the first
            break
    stopped.send_signal(signal.SIGINT)
    out, _ = stopped.communicate()
    assert stopped.returncode == 130
    assert "This goes on from there: mtlcluster train" in out
    again = start("stopped", settings)
    assert "test" in again.communicate()[0]
    assert again.returncode == 0
    assert whole.communicate()
    histories = [read_history(tmp_path / name / "history.pkl") for name in ("whole", "stopped")]
    assert_same(*(history["series"] for history in histories))
    assert len(histories[1]["info"]["attempts"]) == 2

    other = start("stopped", "epochs: 13\ndata: {metrics: false}")
    assert "holds another run" in other.communicate()[1]
    assert other.returncode == 2


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ("method: {schedule: {name: single, task: d}}", 2, "there is no task 'd'"),
        ("model: {widht: 3}", 2, "run.yaml:2: unknown option 'widht'"),
        ("data: {broken: true}", 1, "error: sample 7: inputs: a value that is not finite"),
    ],
)
def test_what_goes_wrong_is_one_message(start, settings, code, message):
    process = start("out", settings)
    _, errors = process.communicate()
    assert process.returncode == code
    assert message in errors
    assert "Traceback" not in errors


def test_a_training_that_was_begun_under_older_defaults_keeps_them(tmp_path):
    """Its config.yaml holds every option that there was then."""
    settings = {"job": f"{PROJECT / 'jobs/tiny.py'}:build", "method": "uncertainty"}
    (tmp_path / "run.yaml").write_text(dump(settings))
    began = RunConfig.model_validate(settings, context={"defaults": 1}).model_dump()
    del began["method"]["weighting"]["lr"]
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text(dump(began))
    rates = [
        _read_for(tmp_path / name, tmp_path / "run.yaml")[0].method["weighting"]["lr"] for name in ("begun", "new")
    ]
    assert rates == [None, 0.025]
    (tmp_path / "run.yaml").write_text(dump({**settings, "seed": 1}))
    with pytest.raises(UserError, match="holds another run"):
        _read_for(tmp_path / "begun", tmp_path / "run.yaml")
