"""Factors of a gradient method that are used for several steps (`every`)."""

import pytest
import torch
from rig.gradient_steps import ALL, data, step
from rig.plain_training import (
    Plain,
    assert_gradients,
    batch_of,
    combined,
    own_gradients,
    own_losses,
    seeded,
    trainer_for,
)
from rig.tiny_runs import assert_same, final_weights, tiny, tiny_with_stops


@pytest.mark.parametrize("at", ["shared", "representation", "last_layer"])
def test_in_an_interval_the_weights_stay(at, tmp_path):
    """Asked at steps 0, 3 and 6 of the first tasks, and anew when others are active."""
    trainer = trainer_for(seeded(Plain), data(), tmp_path, {"gradient": {"name": "upgrad", "every": 3, "at": at}})
    asked, steps, weigh = [], [], trainer.gradient.weights

    def weights(gramian, active):
        asked.append((len(steps), len(gramian)))
        return weigh(gramian, active)

    trainer.gradient.weights = weights
    a = None
    for active in [ALL] * 5 + [[0, 2]] * 2 + [ALL] * 4:
        found = step(trainer, [batch_of(trainer)], active)
        trainer.update.learn(found)
        steps.append(found)
        if found.aggregation is not None:
            a = found.aggregation.factors
        named = dict(trainer.model.named_parameters())
        losses, _ = own_losses(trainer.model, [trainer.tasks[i] for i in active], batch_of(trainer))
        rows = own_gradients(losses, list(named.values()))
        trunk, heads = combined(rows, a.tolist()), combined(rows, [1.0] * len(active))
        wanted = {n: h if n.startswith("heads.") else t for n, t, h in zip(named, trunk, heads, strict=True)}
        assert_gradients(trainer.model, wanted, rel=1e-3)
        with torch.no_grad():
            for parameter in named.values():
                parameter -= 0.05 * torch.randn_like(parameter)
    assert asked == [(0, 3), (3, 3), (5, 2), (7, 3), (10, 3)]


@pytest.mark.parametrize(
    "gradient", [{"name": "pcgrad", "every": 4}, {"name": "gradvac", "every": 3, "at": "representation"}], ids=str
)
def test_a_run_goes_on_exactly_in_the_middle_of_an_interval(gradient, tmp_path):
    settings = {"method": {"gradient": gradient}, "epochs": 2}
    whole = tiny(tmp_path / "whole", **settings)
    parts, stops = tiny_with_stops(tmp_path / "parts", 7, **settings)
    assert stops > 1
    assert_same(whole["series"], parts["series"])
    ends = [final_weights(tmp_path / name) for name in ("whole", "parts")]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_the_weights_of_an_overflow_are_not_kept(tmp_path):
    """With `every` they would be used for the steps to come."""
    trainer = trainer_for(seeded(Plain), data(), tmp_path, {"gradient": {"name": "mgda", "every": 5}})
    found = step(trainer, [batch_of(trainer)], scale=2.0**127)
    trainer.update.learn(found)
    found = step(trainer, [batch_of(trainer)])
    assert found.aggregation is not None
    assert found.aggregation.factors.sum() == pytest.approx(1)
