"""Dense tasks, with a label for each pixel: losses and metrics are over the labelled pixels of a whole step."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rig import dense_job
from rig.dense_job import CHANNELS, CONFIG, build, data, plain_loop, tasks
from rig.slurm_cluster import free_ports
from sklearn import metrics as sk
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import RunConfig
from mtlcluster.sweep.history import read_history
from mtlcluster.training.batch_check import BatchError, check_batch
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.gradients.batch import prepare as prepare_batch
from mtlcluster.training.train import prepare

NAMES = [*CHANNELS, "whole"]
STEPS = CONFIG["epochs"]
TESTS = Path(__file__).parents[1]
RANK = """
import os, sys
from rig.dense_job import CONFIG, build
from mtlcluster import train
train(build, {**CONFIG, "method": "pcgrad", "resources": {"gpus": 2}}, sys.argv[1])
os._exit(0)  # as a training process of a sweep: gloo's threads may abort an ordinary exit
"""


@pytest.mark.parametrize("cut", [{}, {"batch_size": 12, "accumulate": 1}, {"batch_size": 5}])
def test_it_computes_what_a_plain_loop_computes(tmp_path, cut):
    """However the images are cut into micro-batches."""
    config = RunConfig(job="dense", **{**CONFIG, **cut})
    trainer = prepare(build, config, tmp_path, Callbacks())
    trainer.problem.test = None  # its evaluation would load the best weights
    model = copy.deepcopy(trainer.model)
    history, expected = trainer.run(), plain_loop(model, STEPS)
    for name in NAMES:
        found = history["series"][f"train/{name}/loss"]["value"]
        assert found.tolist() == pytest.approx([step[name] for step in expected], rel=1e-5)
    for (name, ours), theirs in zip(trainer.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6), name


def test_two_ranks_train_as_one(tmp_path):
    alone = train(build, {**CONFIG, "method": "pcgrad"}, tmp_path / "one")
    [port] = free_ports(1)
    environment = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}  # fmt: skip
    command = [sys.executable, "-c", RANK, str(tmp_path / "two")]
    ranks = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2)
    ]
    assert [rank.wait(200) for rank in ranks] == [0, 0]
    together = read_history(tmp_path / "two" / "history.pkl")
    for name in alone["series"]:
        one, two = alone["series"][name]["value"], together["series"][name]["value"]
        assert np.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True), name


def test_a_stopped_run_goes_on_exactly(tmp_path):
    class StopsOnce(Callbacks):
        asked = 0

        def should_stop(self):
            self.asked += 1
            return self.asked == 2

    settings = {**CONFIG, "method": {"weighting": "gradnorm", "gradient": "pcgrad"}}
    whole = train(build, settings, tmp_path / "whole")
    with pytest.raises(StopRequested):
        train(build, settings, tmp_path / "stopped", StopsOnce())
    again = train(build, settings, tmp_path / "stopped")
    assert again["info"]["attempts"][1]["step"]
    for name in whole["series"]:
        assert np.array_equal(whole["series"][name]["value"], again["series"][name]["value"], equal_nan=True), name


def test_the_metrics_are_over_the_labelled_pixels(tmp_path):
    whole = train(build, CONFIG, tmp_path)
    trainer, history = prepare(build, RunConfig(job="dense", **CONFIG), tmp_path, Callbacks()), whole["series"]
    trainer.load_best(whole["info"]["best"]["step"])
    inputs, targets = data(1)
    with torch.no_grad():
        out = trainer.model.eval()(inputs, NAMES)
        losses = dense_job.losses(trainer.model, inputs, targets)
    expected = {f"{name}/loss": loss.item() for name, loss in losses.items()}
    classes, edge, depth = (targets[name] for name in ("classes", "edge", "depth"))
    said, truth = out["classes"].argmax(1)[classes >= 0], classes[classes >= 0]
    yes, is_edge = out["edge"][:, 0].sigmoid()[edge >= 0].double(), edge[edge >= 0]
    has_normals = (targets["normals"] != 0).any(1, keepdim=True).expand_as(targets["normals"])
    expected |= {
        "classes/accuracy": sk.accuracy_score(truth, said),
        "classes/f1": sk.f1_score(truth, said, average="macro"),
        "depth/mae": (out["depth"][:, 0] - depth)[~depth.isnan()].abs().mean().item(),
        "depth/r2": sk.r2_score(depth[~depth.isnan()], out["depth"][:, 0][~depth.isnan()]),
        "normals/mae": (out["normals"] - targets["normals"])[has_normals].abs().mean().item(),
        "edge/accuracy": sk.accuracy_score(is_edge, yes > 0.5),
        "edge/f1_macro": sk.f1_score(is_edge, yes > 0.5, average="macro"),
    }
    found = {name: history[f"test/{name}"]["value"].item() for name in expected}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert history["test/edge/roc_auc"]["value"].item() == pytest.approx(sk.roc_auc_score(is_edge, yes), abs=0.02)
    assert history["test/edge/confusion"]["value"].tolist() == [sk.confusion_matrix(is_edge, yes > 0.5).tolist()]
    assert "test/mean_f1" in history
    assert "test/exact_match" not in history, "pixels have no tasks in common"


def test_a_step_without_a_label_leaves_the_task_out_and_images_without_one_count_for_nothing(tmp_path):
    trainer = prepare(build, RunConfig(job="dense", **CONFIG), tmp_path, Callbacks())
    inputs, targets = trainer.problem.train[:4]  # the first four have no classes
    found = trainer.update([(inputs, targets)], range(5))
    assert found.active == [1, 2, 3, 4]
    assert trainer.model.heads["classes"].weight.grad is None
    more = trainer.problem.train[:8]
    with_empty = trainer.update([more], [0]).losses
    inputs, targets = trainer.problem.train[slice(4, 8)]
    assert torch.allclose(trainer.update([(inputs, targets)], [0]).losses, with_empty)


def test_schedules_that_draw_samples_count_images(tmp_path):
    classes, depth = tasks()[:2]
    batch = (torch.zeros(6, 2, 2, 2), {"classes": torch.zeros(6, 2, 2).long(), "depth": torch.zeros(6, 2, 2)})
    batch[1]["classes"][0] = -1
    batch[1]["classes"][1, 0] = -1
    drawn = [torch.tensor([1, 0, 2]), torch.tensor([5, 3, 4])]
    found = prepare_batch(batch, [classes, depth], torch.device("cpu"), drawn)
    assert found.labelled[0].tolist() == [6, 7, 8, 9, 10, 11]
    assert (found.counts, found.samples) == ([6, 12], [2, 3])
    trainer = prepare(build, RunConfig(job="dense", **CONFIG), tmp_path / "step", Callbacks())
    step = trainer.update.forwards.prepare([trainer.problem.train[:]], range(5), shares=torch.full((5,), 0.2))
    samples = torch.tensor(step.batches[0].samples)
    assert samples.sum() <= 12
    assert torch.allclose(step.emphasis, 5 * samples / samples.sum())
    history = train(build, {**CONFIG, "accumulate": 1, "method": "difficulty_sampling"}, tmp_path)
    assert np.isfinite(history["series"]["train/depth/loss"]["value"]).any()


@pytest.mark.parametrize(
    ("task", "targets", "sentence"),
    [
        ("classes", torch.full((2, 5, 5), 3), "targets of 'classes': labels should be from 0 to 2, found 3"),
        ("classes", torch.zeros(2).long(), r"targets of 'classes': of a dense task, they should be \[N, H, W\] or"),
        ("depth", torch.full((2, 5, 5), float("inf")), "targets of 'depth': a value that is not finite, at position 0"),
        ("normals", torch.tensor([0.0, float("nan")]).view(1, 2, 1, 1).repeat(2, 1, 5, 5), "not finite, at position 1"),
        ("halves", torch.tensor([0.0, float("nan")]).view(1, 2, 1, 1).repeat(2, 1, 5, 5), "not finite, at position 1"),
    ],
)
def test_broken_labels_are_named(task, targets, sentence):
    halves = Task.regression("halves", missing=float("nan"), dense=True)  # an element is missing as a whole
    [checked] = [own for own in [*tasks(), halves] if own.name == task]
    with pytest.raises(BatchError, match=sentence):
        check_batch((torch.zeros(2), {task: targets}), [checked], ["a", "b"])


def test_shapes_that_do_not_fit_are_refused_in_a_sentence(tmp_path):
    def small():
        inputs = torch.randn(8, 1, 4, 4)
        model = MultiTaskModel(nn.Conv2d(1, 2, 3), {"depth": nn.Conv2d(2, 1, 1)})  # gives [8, 1, 2, 2]
        data = TensorData(inputs, {"depth": inputs[:, 0]})
        return Problem(model, [Task.regression("depth", dense=True)], data, data)

    sentence = "outputs of 'depth' are [8, 1, 2, 2], its targets [8, 4, 4]: height and width should be the same"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        train(small, {"epochs": 1, "batch_size": 8}, tmp_path)
    with pytest.raises(ValueError, match="task 'edge' is dense and needs a threshold"):
        Task.binary("edge", threshold=None, dense=True)
    with pytest.raises(ValueError, match=r"outputs should be \[N, C, H, W\] .*, found \[3\]"):
        Task.regression("depth", dense=True).rows(torch.zeros(3))
