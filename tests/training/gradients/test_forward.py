"""Several micro-batches of a step count as one batch."""

import pytest
import torch
from rig.gradient_steps import GRADIENTS, WEIGHTINGS, data, gradients, name_of, step
from rig.plain_training import (
    Plain,
    batch_of,
    cut,
    fresh,
    seeded,
    trainer_for,
)


@pytest.mark.parametrize(
    "full",
    [
        *({"weighting": "equal", "gradient": g} for g in GRADIENTS),
        *({"weighting": w, "gradient": "sum"} for w in WEIGHTINGS),
        *({"weighting": w, "gradient": "upgrad"} for w in WEIGHTINGS),
    ],
    ids=lambda full: f"{name_of(full['weighting'])}-{name_of(full['gradient'])}",
)
def test_three_micro_batches_are_one_batch(full, tmp_path):
    """Over three steps that learn; every gradient and every value that a step gives."""
    found = {}
    for sizes in ([12], [5, 4, 3]):
        model = seeded(Plain)
        trainer = trainer_for(model, data(), tmp_path / str(len(sizes)), full, missing=True, accumulate=len(sizes))
        steps = found[len(sizes)] = []
        for _ in range(3):
            update = step(trainer, cut(batch_of(trainer), sizes))
            learned = [p.grad for p in trainer.weighting.parameters()]
            steps.append((gradients(trainer), [update.losses, update.weights, update.total, *learned]))
            trainer.optimizer.param_groups[0]["lr"] = 1e-3
            trainer.optimizer.step()
            trainer.update.learn(update)
    for whole, parts in zip(found[1], found[3], strict=True):
        torch.testing.assert_close(parts[1], whole[1], rtol=1e-3, atol=1e-5)
        longest = max(float(g.norm()) for g in whole[0].values())
        for name, gradient in whole[0].items():
            assert float((parts[0][name] - gradient).norm()) <= 2e-3 * max(float(gradient.norm()), 0.1 * longest), name


def test_random_weights_are_drawn_once_a_step(tmp_path):
    trainer = trainer_for(seeded(Plain), data(), tmp_path, "rlw", accumulate=3)
    slots = fresh(trainer, "rlw")
    for _ in range(3):
        found = step(trainer, cut(batch_of(trainer), [4, 4, 4]))
        slots[1].begin_step()
        torch.testing.assert_close(found.weights, torch.softmax(slots[1].draw, 0))
    assert torch.equal(trainer.generator.get_state(), slots[1].context.generator.get_state())
