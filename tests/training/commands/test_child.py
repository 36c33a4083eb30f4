"""The training process itself: killed at any moment and started again, it ends as if it had been left alone."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from rig.tiny_runs import PROJECT, assert_same, final_weights, tiny

from mtlcluster.config.run import RunConfig
from mtlcluster.sweep.history import read_history

LIBRARY = Path(__file__).parents[3]
DSG = {"schedule": {"name": "dsg", "patience": 1, "tolerance": 0.2}, "weighting": "gradnorm", "gradient": "pcgrad"}


def start(folder, **settings):
    """Starts the process; returns it and the file that its reports come from."""
    folder.mkdir(exist_ok=True)
    job = f"{PROJECT}/jobs/tiny.py:build"
    usual = {"job": job, "batch_size": 16, "optimizer": {"lr": 0.01}, "data": {"metrics": False}}
    config = RunConfig(**{**usual, **settings})
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump()))
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "mtlcluster._entry", "child", str(folder), str(writing)],
        stdin=subprocess.PIPE, cwd=PROJECT, pass_fds=[writing], text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.close(writing)
    return process, os.fdopen(reading)


def reports(file):
    return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    "method",
    [pytest.param("uncertainty", marks=pytest.mark.long), DSG],
    ids=["uncertainty", "dsg+gradnorm+pcgrad"],
)
def test_killed_at_any_moment_it_ends_the_same(method, tmp_path):
    """SIGKILL at random moments, with a checkpoint at every step: most often while one is being written."""
    settings = {"method": method, "accumulate": 2, "epochs": 16}
    whole = tiny(tmp_path / "whole", data={"metrics": False}, **settings)
    moments = random.Random(1)
    for kill in range(100):
        process, file = start(tmp_path / "killed", checkpoint_every="0.000001s", **settings)
        if kill < 3:
            for line in file:
                if json.loads(line)["event"] in ("started", "saved") and moments.random() < 0.04:
                    break
            try:
                process.wait(moments.random() * 0.05)
            except subprocess.TimeoutExpired:
                process.kill()
        file.read()
        if process.wait() == 0:
            break
    assert kill >= 2
    assert_same(whole["series"], read_history(tmp_path / "killed/history.pkl")["series"])
    expected, weights = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    assert all(torch.equal(expected[name], weights[name]) for name in expected)


def test_asked_to_stop_it_saves_and_a_dead_worker_is_a_wish_to_stop(tmp_path):
    settings = {"epochs": 400, "checkpoint_every": "1h"}
    process, file = start(tmp_path, **settings)
    assert json.loads(file.readline())["event"] == "started"
    process.stdin.write("stop\n")
    process.stdin.flush()
    assert process.wait() == 3
    *_, stopped = reports(file)
    assert stopped["event"] == "stopped"
    process, file = start(tmp_path, **settings)
    started = json.loads(file.readline())
    assert (started["event"], started["step"]) == ("started", stopped["step"])
    process.stdin.close()
    assert process.wait() == 3


def test_what_goes_wrong_is_reported_in_one_line(tmp_path, capfd):
    process, file = start(tmp_path, data={"broken": True, "metrics": False}, seed=2)
    *_, failed = reports(file)
    assert process.wait() == 1
    assert failed["event"] == "failed"
    assert "the batch is broken: sample 7: inputs: a value that is not finite" in failed["error"]
    assert ". To see that step again: mtlcluster replay " in failed["error"]
    assert "Traceback" in capfd.readouterr().err
