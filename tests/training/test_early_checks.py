"""What the number of samples and the batch size foretell is said before the first step, with what helps."""

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import Best, RunConfig, run_hash
from mtlcluster.errors import UserError
from mtlcluster.launch.preflight import check as launch_check
from mtlcluster.training.batches import epoch_batches
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.commands import preflight as checking
from mtlcluster.training.commands.terminal import check_file
from mtlcluster.training.early_checks import foresee
from mtlcluster.training.train import prepare

CPU = torch.device("cpu")


class Functional(nn.Module):
    def forward(self, x):
        return F.batch_norm(x, torch.zeros(6), torch.ones(6), training=self.training)


class Squeezed(nn.Module):
    """Works by chance where there are several samples."""

    def forward(self, x):
        return torch.cat([x.squeeze(), x.squeeze()], 1)[:, :6]


class Spread(nn.Module):
    """Batch norm over more values a channel than samples."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x.view(-1, 2, 3)).flatten(1)


FAIL_ON_ONE = {
    "trunk": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)),
    "deep": lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()))),
    "maps": lambda: nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.BatchNorm2d(6), nn.Flatten()),
    "functional": Functional,
    "squeezed": Squeezed,
}
ALL_RIGHT = {"none": lambda: nn.Linear(6, 6), "spread": Spread, "layer norm": lambda: nn.LayerNorm(6)}


def squared(outputs, targets):
    return F.mse_loss(outputs.flatten(), targets)


def problem(trunk, samples=33, validation=8, lengths=False):
    torch.manual_seed(0)
    x = torch.randn(max(samples, validation), 6)
    train_data, other = (TensorData(x[:n], {"a": x[:n].sum(1)}) for n in (samples, validation))
    if lengths:
        train_data.lengths = torch.arange(samples)
    return Problem(MultiTaskModel(trunk(), {"a": nn.Linear(6, 1)}), [Task("a", squared, "regression")], train_data,
                   other)  # fmt: skip


SETTINGS = {"epochs": 3, "batch_size": 8}


class Events(Callbacks):
    def __init__(self):
        self.seen = []

    def report(self, event, **values):
        self.seen.append(event)


@pytest.mark.parametrize("kind", FAIL_ON_ONE)
def test_a_last_batch_of_one_is_refused_before_the_first_step_and_dropped_on_request(kind, tmp_path):
    events = Events()
    words = r"last batch of an epoch has one sample \(33 in batches of 8\).*; say last_batch: drop, or batch_size: 9"
    with pytest.raises(ValueError, match=words):
        train(lambda: problem(FAIL_ON_ONE[kind]), SETTINGS, tmp_path, events)
    assert not events.seen
    with pytest.raises(ValueError, match=words):
        train(lambda: problem(FAIL_ON_ONE[kind]), {**SETTINGS, "accumulate": 2}, tmp_path)
    for settings, steps in (({"last_batch": "drop"}, 12), ({"batch_size": 9}, 12)):
        folder = tmp_path / str(settings)
        history = train(lambda: problem(FAIL_ON_ONE[kind]), {**SETTINGS, **settings}, folder)
        assert list(history["series"]["train/a/loss"]["step"])[-1] == steps


@pytest.mark.parametrize("kind", ALL_RIGHT)
def test_a_last_batch_of_one_that_the_model_can_do_is_kept_and_the_look_leaves_no_trace(kind, tmp_path):
    config = RunConfig(job="x", **SETTINGS)
    trainer = prepare(lambda: problem(ALL_RIGHT[kind]), config, tmp_path, Callbacks())
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    random = torch.get_rng_state()
    trainer.foresee(1)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert trainer.run()["series"]["train/a/loss"]["step"][-1] == 15


@pytest.mark.parametrize(
    ("samples", "batch_size", "ranks", "words"),
    [
        (34, 8, 2, r"has 2 samples, which 2 ranks share .*; say last_batch: drop, or batch_size: 9"),
        (35, 8, 2, "has 3 samples, which 2 ranks share"),
        (33, 8, 2, "has one sample, which 2 ranks share"),
        (39, 8, 4, "has 7 samples, which 4 ranks share"),
        (32, 8, 8, "a batch has 8 samples, which 8 ranks share, .* say a batch_size of 16 or more"),
        (32, 1, 1, "a batch has one sample, .* say a batch_size of 2 or more"),
        (3, 8, 2, "there are 3 samples to train on, which 2 ranks share, and the model can't be trained on one alone"),
        (36, 8, 2, None),
        (40, 8, 4, None),
    ],
)
def test_a_part_of_a_rank_is_a_batch_of_its_own(samples, batch_size, ranks, words):
    config, made = RunConfig(job="x", batch_size=batch_size), problem(FAIL_ON_ONE["trunk"], samples)
    if words is None:
        foresee(made, made.tasks, config, CPU, ranks)
        return
    with pytest.raises(ValueError, match=words):
        foresee(made, made.tasks, config, CPU, ranks)
    if "drop" in words:
        foresee(made, made.tasks, config.model_copy(update={"last_batch": "drop"}), CPU, ranks)


def test_a_last_batch_that_is_never_reached_is_none(tmp_path):
    settings = {"steps": 4, "batch_size": 8}
    assert train(lambda: problem(FAIL_ON_ONE["trunk"]), settings, tmp_path / "1")["info"]["finished"]
    with pytest.raises(ValueError, match="has one sample"):  # which may come first
        train(lambda: problem(FAIL_ON_ONE["trunk"], lengths=True), settings, tmp_path / "2")


@pytest.mark.parametrize(
    ("settings", "data", "words"),
    [
        ({"last_batch": "drop"}, {"samples": 7}, "last_batch: drop leaves nothing of 7 training samples"),
        ({}, {"samples": 0}, "the training data are empty"),
        ({}, {"validation": 0}, "the validation data are empty"),
    ],
)
def test_data_that_are_too_few_are_told(settings, data, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(lambda: problem(ALL_RIGHT["none"], **data), {**SETTINGS, **settings}, tmp_path)


def test_check_and_submit_check_say_the_same(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    base = {"job": "jobs/tiny.py:build", "data": {"metrics": False, "samples": 97}, "batch_size": 32, "epochs": 1}
    on_ranks = {"batch_size": 31, "resources": {"nodes": 3}}
    alone, shared = "has one sample (97 in batches of 32)", "has 4 samples, which 3 ranks share"
    for more, words in (({}, alone), (on_ranks, shared)):
        (project / "run.yaml").write_text(yaml.safe_dump(base | more))
        with pytest.raises(UserError) as error:
            check_file(project / "run.yaml")
        assert words in str(error.value)
        assert checking.main(project, [project / "run.yaml"]) == 1
        assert words in capsys.readouterr().out
        (project / "run.yaml").write_text(yaml.safe_dump(base | more | {"last_batch": "drop"}))
        assert (check_file(project / "run.yaml"), checking.main(project, [project / "run.yaml"])) == (0, 0)


@pytest.mark.long
def test_submit_check_looks_at_every_size_of_a_grid(make_grid):
    said = []
    grid = make_grid(set={"data.samples": 97}, grid={"batch_size": [31, 32], "seed": [0, 1]})
    with pytest.raises(UserError, match=r"method equal \(batch_size=32.*\): the last batch of an epoch has one sample"):
        launch_check(grid, said.append)
    assert said == ["checking 1 method in 2 settings: one training step of each"]


@pytest.mark.parametrize("lengths", [False, True])
def test_what_is_dropped_is_others_in_each_epoch_and_resume_is_exact(lengths, tmp_path):
    of = torch.arange(33) if lengths else None
    epochs = [epoch_batches(33, 8, 0, epoch, of, drop=True) for epoch in range(20)]
    assert {len(part) for parts in epochs for part in parts} == {8}
    dropped = [set(range(33)) - set(torch.cat(parts).tolist()) for parts in epochs]
    assert all(len(one) == 1 for one in dropped)
    assert len(set.union(*dropped)) > 5
    kept = [part.tolist() for part in epoch_batches(32, 8, 0, 1, None)]
    assert [part.tolist() for part in epoch_batches(32, 8, 0, 1, None, drop=True)] == kept

    class Once(Callbacks):
        asked = 0

        def should_stop(self):
            self.asked += 1
            return self.asked == 6

    settings = {**SETTINGS, "last_batch": "drop"}
    whole = train(lambda: problem(FAIL_ON_ONE["trunk"], lengths=lengths), settings, tmp_path / "whole")
    with pytest.raises(StopRequested):
        train(lambda: problem(FAIL_ON_ONE["trunk"], lengths=lengths), settings, tmp_path / "stopped", Once())
    again = train(lambda: problem(FAIL_ON_ONE["trunk"], lengths=lengths), settings, tmp_path / "stopped")
    assert len(again["info"]["attempts"]) == 2
    for name, series in whole["series"].items():
        assert series["value"].tobytes() == again["series"][name]["value"].tobytes()


def test_the_default_keeps_every_identity():
    first = RunConfig(job="x", best=Best(value="mean_loss"))  # what the hash of that time stands for
    assert run_hash(first) == run_hash(first.model_copy(update={"last_batch": "keep"})) == "83f762a44c"
    assert run_hash(RunConfig(job="x", last_batch="drop")) != run_hash(RunConfig(job="x"))
