"""The training loop: what a user relies on."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rig.tiny_runs import PROJECT, tiny
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import Optimizer, RunConfig, Scheduler
from mtlcluster.methods.base import Gradient
from mtlcluster.sweep.history import read_history
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.nonfinite.guard import NonFinite
from mtlcluster.training.optimizer import LearningRate, make_optimizer
from mtlcluster.training.train import load_build, prepare


def plain_problem(labels_missing: bool = False, frozen: bool = False) -> Problem:
    """Two tasks on 40 samples, without batch norm or dropout, so that a plain loop can be written beside it."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(40, 5, generator=generator)
    value = inputs.sum(1)
    if labels_missing:
        value[::3] = float("nan")
    data = TensorData(inputs, {"sign": (inputs[:, 0] > 0).long(), "value": value})
    trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh())
    if frozen:
        trunk[0].requires_grad_(False)
    return Problem(
        MultiTaskModel(trunk, {"sign": nn.Linear(6, 2), "value": nn.Linear(6, 1)}),
        [Task.classification("sign", 2), Task.regression("value", missing=float("nan"))],
        train=data,
        validation=data,
    )


def test_it_computes_what_a_plain_loop_computes(tmp_path):
    """By hand: AdamW with decay on matrices only, warm-up and cosine, clipping, shuffling and missing labels."""
    config = RunConfig(
        job="plain", epochs=3, batch_size=8, seed=3, optimizer={"lr": 0.01, "weight_decay": 0.1},
        scheduler={"name": "cosine", "warmup": 0.2}, gradient_clip=0.5,
    )  # fmt: skip
    history = train(lambda: plain_problem(labels_missing=True), config, tmp_path)

    from mtlcluster.training.batches import epoch_batches

    torch.manual_seed(3)
    problem = plain_problem(labels_missing=True)
    model, (inputs, targets) = problem.model, problem.train[slice(None)]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0}], lr=1)
    losses, rates, step = [], [], 0
    for epoch in range(3):
        for batch in epoch_batches(40, 8, 3, epoch):
            rate = 0.01 * ((step + 1) / 3 if step < 3 else 0.5 * (1 + math.cos(math.pi * (step - 3) / 12)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            outputs = model(inputs[batch], ["sign", "value"])
            known = ~targets["value"][batch].isnan()
            sign = F.cross_entropy(outputs["sign"], targets["sign"][batch])
            value = F.mse_loss(outputs["value"].flatten()[known], targets["value"][batch][known])
            optimizer.zero_grad()
            (sign + value).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append((sign.item(), value.item()))
            rates.append(rate)
            step += 1
    series = history["series"]
    assert series["train/sign/loss"]["step"].tolist() == list(range(1, 16))
    np.testing.assert_allclose(series["train/sign/loss"]["value"], [a for a, _ in losses], rtol=1e-4)
    np.testing.assert_allclose(series["train/value/loss"]["value"], [b for _, b in losses], rtol=1e-4)
    np.testing.assert_allclose(series["train/total_loss"]["value"], [a + b for a, b in losses], rtol=1e-4)
    np.testing.assert_allclose(series["learning_rate/trunk"]["value"], rates, rtol=1e-12)


@pytest.mark.parametrize(
    "method", ["equal", "uncertainty", "gradnorm", "pcgrad", {"weighting": "dwa", "gradient": "pcgrad"}]
)
def test_accumulation_changes_nothing_but_memory(method, tmp_path):
    """A step of two batches of 8 equals one of 16, also with missing labels: a loss is over all labelled samples."""
    common = {"method": method, "epochs": 4, "optimizer": {"lr": 0.01}}
    sizes = {"batch_size": 16}, {"batch_size": 8, "accumulate": 2}
    whole, parts = (
        train(lambda: plain_problem(labels_missing=True), {**common, **size}, tmp_path / str(i))
        for i, size in enumerate(sizes)
    )
    for name in ("train/value/loss", "validation/value/loss", "validation/sign/loss", "weight/value", "gradient_norm"):
        np.testing.assert_allclose(whole["series"][name]["value"], parts["series"][name]["value"], rtol=2e-3)


def test_metrics_and_losses_are_of_the_labelled_samples_only(tmp_path):
    history = tiny(tmp_path, epochs=1)
    config = RunConfig(job="jobs/tiny.py:build", epochs=1)
    problem = load_build(config.job, PROJECT, config)()
    best = torch.load(next((tmp_path / "checkpoints").glob("best-*.pt")), weights_only=True)
    problem.model.load_state_dict(best["model"])
    problem.model.eval()
    inputs, targets = problem.test[slice(None)]
    with torch.no_grad():
        outputs = problem.model(inputs, ["a", "b", "c"])
    known = targets["a"] != -1
    value = {name: s["value"][0] for name, s in history["series"].items() if name.startswith("test/")}
    right = (outputs["a"].argmax(1) == targets["a"])[known].float().mean().item()
    assert value["test/a/accuracy"] == pytest.approx(right)
    loss = F.cross_entropy(outputs["a"][known], targets["a"][known]).item()
    assert value["test/a/loss"] == pytest.approx(loss, rel=1e-5)
    known = ~targets["c"].isnan()
    errors = outputs["c"].flatten()[known] - targets["c"][known]
    assert value["test/c/mae"] == pytest.approx(errors.abs().mean().item(), rel=1e-5)
    right = ((outputs["b"].flatten() > 0) == targets["b"]).float().mean().item()
    assert value["test/b/accuracy"] == pytest.approx(right)


def test_a_loss_that_is_no_number_ends_the_run_naming_task_and_step(tmp_path):
    with pytest.raises(NonFinite, match=r"step \d+: the loss of task 'a'.* is nan"):
        tiny(tmp_path, data={"broken": True}, seed=2)  # which does not put it into the batches that are checked
    assert not read_history(tmp_path / "history.pkl")["info"]["finished"]


def test_the_best_checkpoint_is_that_of_the_named_value(tmp_path):
    history = tiny(tmp_path, epochs=8, best={"value": "b/accuracy", "direction": "max"})
    scores = history["series"]["validation/b/accuracy"]["value"]
    assert history["info"]["best"]["number"] == scores.max()
    assert history["info"]["best"]["epoch"] == scores.argmax() + 1
    assert history["series"]["test/b/accuracy"]["epoch"].tolist() == [scores.argmax() + 1]


def test_early_stopping_waits_its_patience(tmp_path):
    history = tiny(tmp_path, epochs=60, early_stopping={"patience": 3}, optimizer={"lr": 0.05})
    losses = history["series"]["validation/relative_loss"]["value"]
    assert len(losses) == losses.argmin() + 1 + 3 < 60


@pytest.mark.parametrize(
    ("best", "message"),
    [
        ({"value": "b/acuracy"}, "there is no validation value 'b/acuracy'; did you mean 'b/accuracy'"),
        ({"value": "b/accuracy", "direction": "min"}, "the better direction is max"),
    ],
)
def test_a_best_value_that_does_not_exist_is_refused_before_training(best, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny(tmp_path, best=best)
    assert not (tmp_path / "checkpoints").exists()


def test_trunk_and_heads_have_settings_of_their_own_and_norms_and_biases_no_decay():
    model = MultiTaskModel(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((2, 4))), {"a": nn.Linear(4, 2)})
    config = Optimizer(lr=0.1, weight_decay=0.5, groups={"trunk": {"lr": 0.01}, "heads": {"weight_decay": 0.2}})
    weighting = nn.ParameterList([torch.zeros(())])
    groups = make_optimizer(config, model, weighting).param_groups
    found = {(g["lr"], g["weight_decay"]): [tuple(p.shape) for p in g["params"]] for g in groups}
    assert found == {
        (0.01, 0.5): [(4, 3)],
        (0.01, 0.0): [(4,), (2, 4), (2, 4)],
        (0.1, 0.2): [(2, 4)],
        (0.1, 0.0): [(2,), ()],
    }


def test_step_and_plateau_schedules():
    def rate(**config):
        optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "base_lr": 1.0}], lr=1.0)
        return LearningRate(Scheduler(**config), optimizer, total_steps=100)

    steps = rate(name="step", warmup=0.1, every=0.25, factor=0.5)
    assert [steps.factor(s) for s in (0, 9, 10, 24, 25, 50, 99)] == [0.1, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]
    plateau = rate(name="plateau", warmup=0.0, patience=2, factor=0.1)
    found = []
    for better in (True, False, False, False, True, False, False):
        plateau.observe_validation(better)
        found.append(plateau.factor(50))
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_long_runs_are_averaged_to_about_a_thousand_points(tmp_path):
    history = tiny(tmp_path, epochs=None, steps=1530, batch_size=75, data={"samples": 75}, validate_every=1000)
    loss, total = history["series"]["train/b/loss"], 1530
    assert loss["step"].tolist() == list(range(2, total + 1, 2))
    assert len(history["series"]["active/b"]["value"]) == 765
    assert history["series"]["validation/b/loss"]["epoch"].tolist() == [1000, 1530]


def test_a_task_with_nothing_to_train_is_refused(tmp_path):
    problem = plain_problem()
    for module in (problem.model.trunk, problem.model.heads["value"]):
        module.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train for value: the trunk is frozen, and so is its head"):
        train(lambda: problem, {"epochs": 1}, tmp_path)


def test_frozen_parameters_stay_and_every_method_works_with_them(tmp_path):
    for method in ("equal", "gradnorm", "pcgrad"):
        problem = plain_problem(frozen=True)
        before = problem.model.trunk[0].weight.clone()
        train(lambda p=problem: p, {"method": method, "epochs": 2}, tmp_path / method)
        assert torch.equal(problem.model.trunk[0].weight, before)


def test_a_task_without_any_label_at_a_step_is_left_out_of_it(tmp_path):
    def build():
        problem = plain_problem()
        problem.train.targets["value"][:] = float("nan")
        return problem

    for method in ("equal", "uncertainty", "gradnorm", "pcgrad"):
        history = train(build, {"method": method, "epochs": 1}, tmp_path / method)
        assert np.isnan(history["series"]["train/value/loss"]["value"]).all()
        assert history["series"]["active/value"]["value"].tolist() == [0.0]
        assert np.isfinite(history["series"]["train/sign/loss"]["value"]).all()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    first, again, other = (tiny(tmp_path / str(i), seed=seed, epochs=1) for i, seed in enumerate((4, 4, 5)))
    losses = [h["series"]["train/b/loss"]["value"].tolist() for h in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.long
@pytest.mark.parametrize("method", ["equal", "gradnorm", "pcgrad"])
def test_a_compiled_model_gives_nearly_the_same_with_every_way_of_taking_gradients(method, tmp_path):
    plain, compiled = (tiny(tmp_path / str(c), epochs=2, method=method, compile=c)["series"] for c in (False, True))
    found = compiled["validation/b/loss"]["value"]
    assert found == pytest.approx(plain["validation/b/loss"]["value"], abs=0.05)


def test_training_in_bf16_gives_nearly_the_same(tmp_path):
    plain = tiny(tmp_path / "plain", epochs=2)["series"]["validation/b/loss"]["value"]
    bf16 = tiny(tmp_path / "bf16", epochs=2, precision="bf16")["series"]["validation/b/loss"]["value"]
    assert bf16 == pytest.approx(plain, abs=0.05)
    assert (bf16 != plain).any()


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    tiny(tmp_path, epochs=1)
    with pytest.raises(ValueError, match="holds the checkpoints of another configuration"):
        tiny(tmp_path, epochs=1, seed=5)


def test_heads_that_share_parameters_are_refused(tmp_path):
    def build():
        problem = plain_problem()
        problem.model.heads["value"] = problem.model.heads["sign"]
        return problem

    with pytest.raises(ValueError, match="belongs to the trunk"):
        train(build, {"method": "pcgrad", "epochs": 1}, tmp_path)


def test_a_method_that_needs_the_whole_jacobian_gets_it(tmp_path):
    """A method that adds up the rows of the Jacobian is the plain sum."""

    class AddUp(Gradient):
        needs = "jacobian"

        def direction(self, jacobian, active):
            assert jacobian.shape == (2, 5 * 7 + 7 + 7 * 6 + 6)
            return jacobian.sum(0)

    config = RunConfig(job="plain", epochs=2, method="gradnorm", optimizer={"lr": 0.01})
    expected = train(plain_problem, config, tmp_path / "sum")["series"]
    trainer = prepare(plain_problem, config, tmp_path / "jacobian", Callbacks())
    trainer.update.gradient = AddUp(trainer.schedule.context)
    found = trainer.run()["series"]
    for name in ("train/sign/loss", "train/value/loss", "weight/value", "gradient_norm"):
        np.testing.assert_allclose(found[name]["value"], expected[name]["value"], rtol=1e-4)


@pytest.mark.parametrize("method", ["equal", "pcgrad"])
def test_what_no_task_reaches_stays_as_it_is(method, tmp_path):
    problem = plain_problem()
    problem.model.unused = nn.Linear(6, 6)
    before = problem.model.unused.weight.clone()
    train(lambda: problem, {"method": method, "epochs": 2, "optimizer": {"weight_decay": 0.5}}, tmp_path)
    assert torch.equal(problem.model.unused.weight, before)


def test_gradnorm_says_when_the_last_shared_layer_is_none(tmp_path):
    def build():
        problem = plain_problem()
        problem.model.unused = nn.Linear(6, 6)
        return problem

    train(build, {"method": "gradnorm", "epochs": 1}, tmp_path / "used last")
    registered_last = {"weighting": {"name": "gradnorm", "layer": None}}
    with pytest.raises(ValueError, match="the last shared layer gets no gradient"):
        train(build, {"method": registered_last, "epochs": 1}, tmp_path / "registered last")


def test_in_fp16_an_overflow_leaves_out_a_step_and_endless_ones_end_the_run(tmp_path):
    def build(scale):
        problem = plain_problem()
        for data in (problem.train, problem.validation):
            data.targets["value"] = data.targets["value"] * scale
        return problem

    settings = {"precision": "fp16", "epochs": 40, "batch_size": 8}
    history = train(lambda: build(300), {"method": "gradnorm", **settings}, tmp_path / "overflow")
    assert np.isfinite(history["series"]["weight/value"]["value"]).all()
    assert np.isnan(history["series"]["gradient_norm"]["value"]).any()
    assert np.isfinite(history["series"]["gradient_norm"]["value"][-20:]).all()

    class NoNumber(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    def broken():
        problem = build(1)
        problem.model.trunk.register_forward_hook(lambda module, inputs, output: NoNumber.apply(output))
        return problem

    with pytest.raises(NonFinite, match="step 41: the gradient of task 'sign', 'value' is not finite"):
        train(broken, {**settings, "epochs": 60}, tmp_path / "broken")
    assert len(read_history(tmp_path / "broken/history.pkl")["series"]["train/sign/loss"]["step"]) >= 40
