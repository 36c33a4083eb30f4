"""Exact gradients: trunks of every shape, frozen or not reached, against the slow way of rig/plain_training.py."""

import pytest
from rig.gradient_steps import ALL, GRADIENTS, GRAMIAN, data, name_of, step
from rig.plain_training import (
    Plain,
    assert_gradients,
    batch_of,
    expected,
    fresh,
    seeded,
    trainer_for,
)
from torch import nn

from mtlcluster import MultiTaskModel


class SeveralOutputs(MultiTaskModel):
    """A dict to one head, a tuple to another, one tensor to the third; one branch is not of the heads but of a task;
    one parameter is tied, one frozen, one reached by nothing."""

    def __init__(self):
        class Sum(nn.Linear):
            def forward(self, given):
                return super().forward(sum(given.values() if isinstance(given, dict) else given))

        heads = {"class": Sum(8, 3), "value": Sum(8, 1), "far": nn.Linear(8, 1)}
        super().__init__(nn.Linear(12, 8), heads)
        self.second, self.own, self.same = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(12, 8)
        self.same.weight = self.second.weight
        self.second.bias.requires_grad_(False)
        self.unreached = nn.Linear(8, 8)

    def forward(self, inputs, tasks):
        a, b = self.trunk(inputs).tanh(), (self.second(inputs) * self.same(inputs)).tanh()
        of = {"class": {"a": a, "b": b}, "value": (b, self.own(a).tanh()), "far": a}
        return {task: self.heads[task](of[task]) for task in tasks}


@pytest.mark.parametrize("gradient", ["sum", "pcgrad", "upgrad", "graddrop"])
@pytest.mark.parametrize("steps", [[ALL, ALL], [[0, 2], [0, 2]], [ALL, [1, 2], [0, 2]]], ids=str)
def test_trunks_with_several_outputs_and_branches(steps, gradient, tmp_path):
    model = seeded(SeveralOutputs)
    trainer = trainer_for(model, data(), tmp_path, gradient)
    slots = fresh(trainer, gradient)
    for active in steps:
        tasks, batch = [trainer.tasks[i] for i in active], batch_of(trainer)
        step(trainer, [batch], active)
        wanted, losses, *_ = expected(model, tasks, batch, *slots[1:])
        assert_gradients(model, wanted)
        assert model.unreached.weight.grad is None
        assert (model.own.weight.grad is None) == (1 not in active)
    assert len(losses) == len(active)


@pytest.mark.parametrize("gradient", GRADIENTS, ids=name_of)
@pytest.mark.parametrize("at", ["shared", "representation"])
def test_a_frozen_trunk_leaves_the_heads_to_train(at, gradient, tmp_path):
    if at != "shared":
        if gradient not in GRAMIAN:
            return
        gradient = {**gradient, "at": at}
    model = seeded(Plain)
    model.trunk.requires_grad_(False)
    trainer = trainer_for(model, data(), tmp_path, {"weighting": "equal", "gradient": gradient})
    step(trainer, [batch_of(trainer)])
    assert_gradients(model, expected(model, trainer.tasks, batch_of(trainer), *fresh(trainer, "equal")[1:])[0])


@pytest.mark.parametrize("gradient", ["upgrad", "graddrop"])
def test_tasks_that_do_not_reach_the_trunk(gradient, tmp_path):
    """At this step, of what is trained."""

    class OnInputs(Plain):
        def forward(self, inputs, tasks):
            h = self.trunk(inputs) if tasks == ["class", "value", "far"] else inputs.repeat(1, 2)[:, :20]
            return {task: self.heads[task](h) for task in tasks}

    model = seeded(OnInputs)
    trainer = trainer_for(model, data(), tmp_path, gradient)
    step(trainer, [batch_of(trainer)], [0, 2])
    assert all(p.grad is None for p in model.trunk.parameters())
    assert all(p.grad is not None for name in ("class", "far") for p in model.heads[name].parameters())
