"""A method in a loop of one's own makes the steps that `train` makes."""

import copy
import io
import re
from pathlib import Path

import pytest
import torch
from rig.plain_training import batch_of, own_losses, targets_for, tasks_of, trainer_for
from torch import nn

from mtlcluster import MultiTaskMethod, MultiTaskModel

NAMES = ["class", "value", "far"]
STEPS = 6


def make_model():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
    return MultiTaskModel(trunk, {name: nn.Linear(6, 3 if name == "class" else 1) for name in NAMES})


def inputs():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(3))


def losses_by_task(model, tasks, batch):
    """Of the tasks that have labels."""
    losses, present = own_losses(model, tasks, batch)
    return {tasks[i].name: loss for i, loss in zip(present, losses, strict=True)}


def own_loop(method, model, steps=STEPS, batch=None):
    tasks = tasks_of()
    batch = batch or (inputs(), targets_for(12, missing=True))
    optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=0.1, momentum=0.9)
    for _ in range(steps):
        method.backward(losses_by_task(model, tasks, batch))
        optimizer.step()
        if method.needs_losses_after:
            method.after_step(losses_by_task(model, tasks, batch))
        method.end_epoch()


@pytest.mark.parametrize(
    "method",
    [
        "equal", "pcgrad", "mgda", "nash_mtl", "graddrop", "moco", "uncertainty", "imtl_l", "dwa", "famo", "rlw",
        "stch",
        {"weighting": "gradnorm", "gradient": "pcgrad"},
        {"weighting": "gradnorm", "gradient": "sum"},
        {"gradient": {"name": "upgrad", "every": 2}},
        {"weighting": "gradnorm", "gradient": {"name": "cagrad", "at": "last_layer"}},
        {"schedule": "round_robin", "weighting": "uncertainty"},
        {"schedule": "sequential"},
    ],
)  # fmt: skip
def test_the_steps_are_those_of_train(method, tmp_path):
    """An epoch is a step of all samples, some of which have no label for a task."""
    model = make_model()
    ours = copy.deepcopy(model)
    settings = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}, "epochs": STEPS}
    plain = {"scheduler": {"name": "constant", "warmup": 0.0}, "gradient_clip": None}
    trainer_for(model, inputs(), tmp_path, method, missing=True, **settings, **plain).run()
    own = MultiTaskMethod(method, ours, tasks_of(), total_steps=STEPS, steps_per_epoch=1)
    own_loop(own, ours)
    start = make_model().state_dict()
    for name, weights in model.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], weights, rtol=1e-4, atol=1e-5), name
    assert not torch.allclose(start["trunk.0.weight"], model.trunk[0].weight, atol=1e-3)


@pytest.mark.parametrize("method", ["pcgrad", "cagrad", "gradnorm", "uncertainty"])
def test_a_steps_gradients_are_those_of_trains_step(method, tmp_path):
    model = make_model()
    ours = copy.deepcopy(model)
    trainer = trainer_for(model, inputs(), tmp_path, method, missing=True)
    batch = batch_of(trainer)
    trainer.update([batch], [0, 1, 2])
    own = MultiTaskMethod(method, ours, tasks_of())
    own.backward(losses_by_task(ours, tasks_of(), batch))
    for (name, theirs), parameter in zip(model.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(parameter.grad, theirs.grad, rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize(
    "method",
    ["famo", "moco", {"schedule": "round_robin", "weighting": "uncertainty"},
     {"weighting": "gradnorm", "gradient": {"name": "pcgrad", "every": 3}}],
)  # fmt: skip
def test_it_goes_on_from_its_state_dict(method):
    model = make_model()
    own = MultiTaskMethod(method, model, tasks_of())
    own_loop(own, model, 4)
    file = io.BytesIO()
    torch.save([model.state_dict(), own.state_dict()], file)
    file.seek(0)
    ours = make_model()
    again = MultiTaskMethod(method, ours, tasks_of(), seed=5)
    for one, state in zip((ours, again), torch.load(file, weights_only=True), strict=True):
        one.load_state_dict(state)
    for one, of in ((own, model), (again, ours)):
        own_loop(one, of, 4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ours.parameters(), strict=True))


def test_the_heads_of_the_model_are_its_tasks_and_only_active_ones_need_a_loss():
    model = make_model()
    own = MultiTaskMethod({"schedule": "round_robin"}, model)
    seen = []
    for _ in range(4):
        seen += own.active
        [name] = own.active
        own.backward({name: model(inputs(), own.active)[name].square().mean()})
        reached = [task for task in NAMES if model.heads[task].weight.grad is not None]
        assert reached == [name]
    assert seen == ["class", "value", "far", "class"]


def test_a_step_without_any_label_has_no_gradients():
    model = make_model()
    own = MultiTaskMethod("pcgrad", model)
    own.backward({name: output.square().mean() for name, output in model(inputs(), NAMES).items()})
    assert model.trunk[0].weight.grad is not None
    own.backward({})
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("method", "tasks", "sentence"),
    [
        ("pcgrd", None, "unknown method 'pcgrd'; did you mean 'pcgrad'?"),
        (
            "difficulty_sampling",
            None,
            "schedule 'difficulty_sampling' draws the samples of each task, which only train() can do",
        ),
        ({"gradient": {"name": "mgda", "at": "representation"}}, None, "at: representation looks into a forward"),
        ("sequential", None, "schedule 'sequential': 1 steps are too few to train 3 tasks"),
        ("equal", ["valu"], "the model has no head 'valu'; did you mean 'value'?"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(method, tasks, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        MultiTaskMethod(method, make_model(), tasks)


def test_wrong_losses_are_refused_in_a_sentence():
    model = make_model()
    own = MultiTaskMethod("famo", model)
    outputs = model(inputs(), NAMES)
    with pytest.raises(ValueError, match="there is no task 'valu'; did you mean 'value'"):
        own.backward({"valu": outputs["value"].mean()})
    with pytest.raises(ValueError, match=r"the loss of task 'value' should be a scalar, found \[12, 1\]"):
        own.backward({"value": outputs["value"]})
    own.backward({"value": outputs["value"].square().mean()})
    with pytest.raises(ValueError, match="call after_step before the next backward"):
        own.backward({"value": outputs["value"].square().mean()})


def test_the_readmes_loop_trains():
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    [code] = re.findall(r"```python\n(from mtlcluster import MultiTaskMethod\n.*?)```", readme, re.DOTALL)
    model = MultiTaskModel(nn.Linear(5, 4), {"left": nn.Linear(4, 3), "right": nn.Linear(4, 3)})
    batch = (inputs(), {name: torch.arange(12) % 3 for name in model.heads})
    loss = nn.functional.cross_entropy

    def total():
        outputs = model(batch[0], ["left", "right"])
        return sum(loss(outputs[name], batch[1][name]).item() for name in outputs)

    before = total()
    exec(code, {"model": model, "torch": torch, "loader": [batch] * 50, "loss": loss})
    assert total() < before


def test_losses_without_a_graph_are_refused_in_a_sentence():
    model = make_model()
    method = MultiTaskMethod("pcgrad", model)
    with pytest.raises(ValueError, match="no loss has a graph"):
        method.backward({name: torch.zeros(()) for name in NAMES})
