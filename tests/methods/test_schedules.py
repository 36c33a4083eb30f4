"""Schedules that divide the run or the batches among the tasks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rig.methods import ALL, TASKS, make
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.config.run import RunConfig
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method, method_label
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.gradients.batch import largest_remainder
from mtlcluster.training.train import prepare


def sequential(order=None):
    return make({"schedule": {"name": "sequential", "order": order}})[0]


def curriculum(steps=40, **options):
    """Five steps an epoch."""
    context = Context(TASKS, torch.Generator(), total_steps=steps, steps_per_epoch=5)
    return build_method(check_method({"schedule": {"name": "curriculum", **options}}), context, torch.device("cpu"))[0]


def stages(schedule, epochs):
    """The tasks of every epoch; the same from its first step to its last."""
    of_steps = [list(schedule.active(step)) for step in range(5 * epochs)]
    assert all(tasks == of_steps[step // 5 * 5] for step, tasks in enumerate(of_steps))
    return of_steps[::5]


def difficulty(**options):
    return make({"schedule": {"name": "difficulty_sampling", **options}})[0]


def three_tasks(labels_missing: bool = False) -> Problem:
    """Without batch norm or dropout, so that a plain loop can be written beside it; `far` has the largest loss."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(40, 5, generator=generator)
    value, far = inputs.sum(1), inputs.prod(1) + 3
    if labels_missing:
        value[::3] = float("nan")
    data = TensorData(inputs, {"sign": (inputs[:, 0] > 0).long(), "value": value, "far": far})
    heads = {"sign": nn.Linear(6, 2), "value": nn.Linear(6, 1), "far": nn.Linear(6, 1)}
    tasks = [
        Task.classification("sign", 2), Task.regression("value", missing=float("nan")), Task.regression("far"),
    ]  # fmt: skip
    return Problem(MultiTaskModel(nn.Sequential(nn.Linear(5, 6), nn.Tanh()), heads), tasks, data, data)


def test_sequential_gives_each_task_an_equal_part_of_the_steps_in_order():
    schedule = sequential(["c", "a", "b"])
    assert [list(schedule.active(step)) for step in range(10)] == [[2]] * 4 + [[0]] * 3 + [[1]] * 3
    assert list(sequential().active(0)) == [0]
    assert list(schedule.trained()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["a", "c", "bb"], "there is no task 'bb'; did you mean 'b'"),
        (["a", "c"], "order leaves out b"),
        ([], "order leaves out a, b, c"),
        (["a", "b", "c", "a"], "order names a task twice: a, b, c, a"),
    ],
)
def test_a_wrong_order_is_refused(order, message):
    with pytest.raises(ValueError, match=message):
        sequential(order)


def test_an_order_is_checked_and_named_as_soon_as_the_configuration_is_read():
    method = {"schedule": {"name": "sequential", "order": ["right", "left"]}}
    assert method_label(check_method(method)) == "sequential(order=right+left)"
    with pytest.raises(ValueError, match="method names the task 'right', which is not in tasks"):
        RunConfig(job="digits", tasks=["left", "even_sum"], method=method)


def test_in_a_sequential_run_only_the_task_whose_turn_it_is_trains_but_all_are_validated(tmp_path):
    settings = {"method": "sequential", "epochs": 6, "batch_size": 20}
    series = train(three_tasks, settings, tmp_path)["series"]
    turns = {name: series[f"active/{name}"]["value"].nonzero()[0].tolist() for name in ("sign", "value", "far")}
    assert turns == {"sign": [0, 1, 2, 3], "value": [4, 5, 6, 7], "far": [8, 9, 10, 11]}
    assert all(np.isfinite(series[f"validation/{name}/loss"]["value"]).sum() == 6 for name in turns)
    with pytest.raises(ValueError, match="2 steps are too few to train 3 tasks"):
        train(three_tasks, {**settings, "epochs": 1}, tmp_path / "short")


def test_a_curriculum_by_hand_trains_each_stage_from_its_epoch_on():
    schedule = curriculum(stages={3: ["c", "a"], 0: ["c"], 5: ["a"]})
    assert stages(schedule, 8) == [[2]] * 3 + [[0, 2]] * 2 + [[0]] * 3
    assert list(schedule.trained()) == [0, 2]  # `b` never trains
    label = method_label(check_method({"schedule": {"name": "curriculum", "stages": {0: ["left"], 3: ["a", "left"]}}}))
    assert label == "curriculum(0=left,3=a+left)"


@pytest.mark.parametrize(("order", "adds"), [("easiest_first", [1, 2, 0]), ("hardest_first", [0, 2, 1])])
def test_a_measured_curriculum_adds_tasks_by_what_is_left_of_their_losses(order, adds):
    """Ratios 1.2, 0.25, 0.9 of the halves' means, whatever the scale; `c` has labels at some steps only."""
    schedule = curriculum(order=order, assess=2, every=2)
    for step in range(10):
        assert list(schedule.active(step)) == [0, 1, 2]
        wobble, late = (-1) ** step * 0.5, step >= 5
        losses = torch.tensor([(6.0 if late else 5.0) + wobble, (100.0 if late else 400.0), 0.9 if late else 1.0])
        if step in (0, 5, 7, 8, 9):  # once in the second half
            schedule.observe_losses(losses[:2], torch.tensor([0, 1]))
        else:
            schedule.observe_losses(losses, ALL)
    assert list(schedule.trained()) == [0, 1, 2]
    expected = [sorted(adds[:count]) for count in (1, 1, 2, 2, 3, 3)]
    for at in (2, 5):  # what was found is kept in a checkpoint, and does not change any more
        resumed = curriculum(order=order, assess=2, every=2)
        resumed.load_state_dict(schedule.state_dict())
        assert [list(resumed.active(5 * epoch)) for epoch in range(at, 8)] == expected[at - 2 :]
        schedule.active(5 * at)
        schedule.observe_losses(torch.tensor([0.001, 1000.0]), torch.tensor([0, 1]))


def test_a_curriculum_is_resumed_within_its_assessment():
    schedule = curriculum(assess=2)
    for step, losses in enumerate([[4.0, 4.0, 4.0]] * 5 + [[3.0, 1.0, 2.0]] * 5):
        if step == 7:
            state, schedule = schedule.state_dict(), curriculum(assess=2)
            schedule.load_state_dict(state)
        schedule.active(step)
        schedule.observe_losses(torch.tensor(losses), ALL)
    assert [list(schedule.active(5 * epoch)) for epoch in (2, 3, 4)] == [[1], [1, 2], [0, 1, 2]]


def test_a_task_of_which_nothing_is_known_is_taken_for_one_that_did_not_get_better():
    schedule = curriculum(assess=2)
    for step in range(10):
        schedule.active(step)
        late = step >= 5
        schedule.observe_losses(torch.tensor([1.5 if late else 1.0, 0.5 if late else 1.0]), torch.tensor([0, 2]))
    assert stages(schedule, 5)[2:] == [[2], [1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": {0: ["a"], 2: ["bb"]}}, "there is no task 'bb'; did you mean 'b'"),
        ({"stages": {1: ["a"]}}, "stages should begin with epoch 0"),
        ({"stages": {}}, "stages should begin with epoch 0"),
        ({"stages": {0: ["a"], 2: []}}, "the stage from epoch 2 on names no task"),
        ({"stages": {0: ["a"], 8: ["b"]}}, "the stage from epoch 8 on never comes: the run has 8 epochs"),
        ({"assess": 4, "every": 2}, "8 epochs are too few: the last of 3 tasks would come in epoch 9"),
        ({"stages": {-1: ["a"]}}, "greater than or equal to 0"),
        ({"order": "easy_first"}, "'easiest_first' or 'hardest_first'"),
        ({"stages": {0: "a"}}, "should be a valid list"),
    ],
)
def test_a_wrong_curriculum_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        curriculum(**options)
    assert curriculum(steps=36, assess=3, every=2) is not None  # the last epoch may be a short one


def test_the_tasks_of_a_curriculum_are_checked_as_soon_as_the_configuration_is_read():
    method = {"schedule": {"name": "curriculum", "stages": {0: ["left"], 2: ["right"]}}}
    with pytest.raises(ValueError, match="method names the task 'right', which is not in tasks"):
        RunConfig(job="digits", tasks=["left", "even_sum"], method=method)
    method = {"gradient": {"name": "torchjd", "aggregator": "Krum", "options": {"n_byzantine": 1}}}
    RunConfig(job="digits", tasks=["left", "even_sum"], method=method)  # its options name no tasks


def test_shares_follow_the_running_means_of_the_losses():
    schedule = difficulty(every=2, smoothing=0.75, floor=0.1)
    assert schedule.shares(0).tolist() == pytest.approx([1 / 3] * 3)
    schedule.observe_losses(torch.tensor([2.0, 4.0]), torch.tensor([0, 1]))
    assert schedule.shares(2).tolist() == pytest.approx([1 / 3] * 3)  # nothing is known of the third
    schedule.observe_losses(torch.tensor([6.0, 4.0, 3.0]), ALL)  # means 3, 4, 3
    assert schedule.shares(3).tolist() == pytest.approx([1 / 3] * 3)  # not yet
    assert schedule.shares(4).tolist() == pytest.approx([0.3, 0.4, 0.3])
    schedule.observe_losses(torch.tensor([99.0, 0.0, 15.0]), ALL)  # 27, 3, 6
    assert schedule.shares(6).tolist() == pytest.approx([0.9 * 27 / 33, 0.1, 0.9 * 6 / 33])
    schedule.observe_losses(torch.tensor([float("nan"), 1.0, 1.0]), ALL)
    assert schedule.shares(8).tolist() == schedule.shares(6).tolist()  # the run's own check will end it


def test_lifting_to_the_floor_can_push_others_below_it():
    schedule = difficulty(every=1, floor=0.25)
    schedule.observe_losses(torch.tensor([0.0, 26.0, 74.0]), ALL)
    assert schedule.shares(1).tolist() == pytest.approx([0.25, 0.25, 0.5])
    schedule = difficulty(every=1, floor=1 / 3)
    schedule.observe_losses(torch.tensor([0.0, 26.0, 74.0]), ALL)
    assert schedule.shares(1).tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(ValueError, match=r"a floor of 0.34 is too high for 3 tasks: at most 0.333"):
        difficulty(floor=0.34)


def test_the_largest_remainder_keeps_the_size_and_stays_within_one_of_every_share():
    assert largest_remainder(torch.tensor([0.25, 0.6, 0.15], dtype=torch.float64), 10) == [3, 6, 1]
    rng = np.random.default_rng(0)
    for _ in range(3000):
        shares = torch.from_numpy(rng.dirichlet(np.full(rng.integers(1, 12), rng.choice([0.01, 1, 100]))))
        size = int(rng.integers(0, 300))
        counts = largest_remainder(shares, size)
        assert sum(counts) == size
        assert all(abs(count - size * share) < 1 + 1e-9 for count, share in zip(counts, shares.tolist(), strict=True))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("gradient", ["sum", "add up"])
def test_a_step_goes_down_the_mean_over_the_samples_each_for_the_task_it_is_drawn_for(gradient, accumulate, tmp_path):
    """Per sample, by hand, with missing labels, and a share that is too small for any sample. What GradNorm sees is of
    each task's own mean.
    """
    method = {"weighting": "gradnorm", "gradient": "pcgrad"}
    config = RunConfig(job="plain", batch_size=8, accumulate=accumulate, method=method)
    trainer = prepare(lambda: three_tasks(labels_missing=True), config, tmp_path, Callbacks())
    if gradient == "sum":
        trainer.update.gradient.needs = "nothing"
    else:
        trainer.update.gradient.weights = lambda gramian, active: torch.ones(len(gramian), dtype=gramian.dtype)
    shares = torch.tensor([0.02, 0.3, 0.68], dtype=torch.float64)
    data, model = trainer.problem.train, trainer.model
    batches = [data[part] for part in torch.arange(40).split(8)[:accumulate]]
    before = trainer.generator.get_state()
    found = trainer.update(batches, [0, 1, 2], shares=shares)
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    again = torch.Generator()
    again.set_state(before)
    every = {name: [] for name in ("value", "far")}
    for inputs, targets in batches:
        order = torch.randperm(8, generator=again).tolist()
        drawn = {"value": order[:2], "far": order[2:]}  # 0.16, 2.4 and 5.44 of 8: 0, 2, 5, and one for the last
        outputs = model(inputs, ["value", "far"])
        for name, positions in drawn.items():
            errors = [F.mse_loss(outputs[name][n, 0], targets[name][n]) for n in positions]
            every[name] += [error for error in errors if not error.isnan()]
    means = [torch.stack(losses).mean() for losses in every.values()]
    norms = [torch.autograd.grad(mean, model.trunk[0].weight, retain_graph=True)[0].norm() for mean in means]
    model.zero_grad()
    (3 * torch.stack(every["value"] + every["far"]).mean()).backward()
    assert found.active == [1, 2]
    assert found.losses.tolist() == pytest.approx([mean.item() for mean in means])
    assert found.norms.tolist() == pytest.approx([norm.item() for norm in norms], rel=1e-4)
    assert found.weights.tolist() == [1, 1]
    for got, parameter in zip(gradients, model.parameters(), strict=True):
        assert (got is None) == (parameter.grad is None)
        if got is not None:
            torch.testing.assert_close(got, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [{}, {"weighting": "gradnorm"}, {"gradient": "pcgrad"}], ids=str)
def test_difficulty_sampling_trains_with_any_weighting_and_gradient_and_records_its_shares(method, tmp_path):
    schedule = {"name": "difficulty_sampling", "every": 5, "floor": 0.05}
    settings = {"method": {"schedule": schedule, **method}, "epochs": 8, "batch_size": 4, "optimizer": {"lr": 0.01}}
    series = train(lambda: three_tasks(labels_missing=True), settings, tmp_path)["series"]
    shares = np.array([series[f"share/{name}"]["value"] for name in ("sign", "value", "far")])
    assert shares.sum(0) == pytest.approx(np.ones(80))
    assert shares[:, :5] == pytest.approx(np.full((3, 5), 1 / 3))
    assert shares[2, -1] > 0.5
    assert shares.min() >= 0.05
    assert len(np.unique(shares[2])) == 16
    assert 0 < series["active/sign"]["value"].mean() < 1
    assert np.isfinite(series["train/total_loss"]["value"]).all()
    assert "share/sign" not in train(three_tasks, {"epochs": 1}, tmp_path / "all")["series"]
