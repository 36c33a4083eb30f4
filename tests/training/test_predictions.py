"""predictions.npz: what a run's best model gives for the test data, sample by sample."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rig import dense_job
from rig.slurm_cluster import free_ports
from rig.tiny_runs import PROJECT, tiny, tiny_with_stops

from mtlcluster import train
from mtlcluster.collect.sample_metrics import weighted_metric
from mtlcluster.sweep.checksums import has_valid_checksum
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.predictions import LARGEST_OUTPUTS, Predictions, read_predictions, write_predictions
from mtlcluster.sweep.reading import Unreadable
from mtlcluster.training import predictions as module

TESTS = Path(__file__).parents[1]
RANK = """
import os, sys
from rig.tiny_runs import tiny
from pathlib import Path
tiny(Path(sys.argv[1]), resources={"gpus": 2})
os._exit(0)  # as a training process of a sweep: gloo's threads may abort an ordinary exit
"""


def agrees(found: Predictions, history: dict) -> list[str]:
    """The metrics that the predictions tell, which equal those of the history."""
    told = []
    for task in found.tasks:
        for name, entry in history["series"].items():
            if name.startswith(f"test/{task.name}/") and len(entry["value"]):
                metric = name.rpartition("/")[2]
                number = weighted_metric(task, metric, np.ones((1, len(found.ids))))
                if number is not None:
                    assert number[0] == pytest.approx(float(entry["value"][-1]), abs=1e-6), name
                    told.append(name)
    return told


def test_they_tell_the_metrics_of_the_history(tmp_path):
    history = tiny(tmp_path)
    found = read_predictions(tmp_path / "predictions.npz")
    assert has_valid_checksum(tmp_path / "predictions.npz")
    assert [task.name for task in found.tasks] == ["a", "b", "c"]
    told = agrees(found, history)
    assert {"test/a/accuracy", "test/b/f1", "test/b/roc_auc", "test/c/mae"} <= {*told}


def test_an_interrupted_run_writes_the_same_file(tmp_path):
    tiny(tmp_path / "one")
    tiny_with_stops(tmp_path / "two", 11)
    files = [(tmp_path / name / "predictions.npz").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_two_ranks_write_them_in_the_order_of_the_data(tmp_path):
    alone = tiny(tmp_path / "one")
    [port] = free_ports(1)
    environment = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}  # fmt: skip
    command = [sys.executable, "-c", RANK, str(tmp_path / "two")]
    ranks = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in (0, 1)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    one, two = (read_predictions(tmp_path / name / "predictions.npz") for name in ("one", "two"))
    assert one.ids == two.ids
    for mine, theirs in zip(one.tasks, two.tasks, strict=True):
        assert np.array_equal(mine.targets, theirs.targets, equal_nan=True)
    assert agrees(one, alone)
    assert agrees(two, read_history(tmp_path / "two" / "history.pkl"))  # its dropout is another one


def test_large_data_keep_sums_that_tell_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_OUTPUTS", 100)
    history = tiny(tmp_path)
    found = read_predictions(tmp_path / "predictions.npz")
    assert all(task.outputs is None and task.sums is not None for task in found.tasks)
    assert {"test/a/accuracy", "test/b/f1", "test/c/mae"} <= {*agrees(found, history)}
    assert LARGEST_OUTPUTS == 16 * 2**20


def test_dense_tasks_keep_sums_of_each_image(tmp_path):
    history = train(dense_job.build, dense_job.CONFIG, tmp_path)
    found = read_predictions(tmp_path / "predictions.npz")
    assert all(task.outputs is None for task in found.tasks if task.name != "whole")
    assert len(agrees(found, history)) >= 4


def test_a_file_of_somebody_else_is_refused_by_name(tmp_path):
    path = tmp_path / "predictions.npz"
    with pytest.raises(FileNotFoundError):
        read_predictions(path)
    np.savez(path, about=np.array([{}], dtype=object))
    with pytest.raises(Unreadable, match=f"{path}: is not the predictions of a run"):
        read_predictions(path)
    write_predictions(path, Predictions(["a"], None, []))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Unreadable, match=str(path)):
        read_predictions(path)


def test_clusters_are_kept_and_their_number_is_checked(tmp_path):
    from mtlcluster.config.run import RunConfig
    from mtlcluster.training.train import load_build

    config = RunConfig(job="jobs/tiny.py:build", epochs=1, batch_size=16)

    def build():
        problem = load_build(config.job, PROJECT, config)()
        problem.test.clusters = [f"video {i // 4}" for i in range(len(problem.test))]
        return problem

    train(build, config, tmp_path / "right")
    found = read_predictions(tmp_path / "right" / "predictions.npz")
    assert found.clusters is not None
    assert found.clusters[:5] == ["video 0"] * 4 + ["video 1"]

    def wrong():
        problem = build()
        problem.test.clusters.pop()
        return problem

    with pytest.raises(ValueError, match=r"the test data name \d+ clusters for \d+ samples"):
        train(wrong, config, tmp_path / "wrong")
