"""Forwards that leave no trace in random generators and buffers."""

import numpy as np
import pytest
import torch
from rig.gradient_steps import data, step
from rig.plain_training import (
    batch_of,
    cut,
    heads_for,
    own_losses,
    seeded,
    trainer_for,
)
from rig.tiny_runs import PROJECT
from torch import nn

from mtlcluster import MultiTaskModel
from mtlcluster.config.run import RunConfig
from mtlcluster.training.train import load_build, train


def with_dropout():
    trunk = nn.Sequential(nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.4), nn.Linear(20, 20))
    return MultiTaskModel(trunk, heads_for(20))


@pytest.mark.parametrize(
    "full",
    [
        {"weighting": "scale_invariant"},
        {"weighting": "famo"},
        {"weighting": "famo", "gradient": "graddrop"},
        {"weighting": "famo", "gradient": {"name": "upgrad", "at": "representation"}},
        {"weighting": "gradnorm", "gradient": {"name": "upgrad", "at": "last_layer"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [[12], [5, 7]], ids=str)
def test_a_second_look_leaves_no_trace_and_sees_the_same(sizes, full, tmp_path):
    """Batch norm's statistics move once a micro-batch and the generators are where they would be, also after FAMO's
    look at the losses after the step, which is of the same samples with the same dropout."""
    model = seeded(with_dropout)
    trainer = trainer_for(model, data(), tmp_path, full, accumulate=len(sizes))
    model.train()
    batches = cut(batch_of(trainer), sizes)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(8)
    found = step(trainer, batches)
    if found.losses_again is not None:
        again = found.losses_again()
        torch.testing.assert_close(again, found.losses, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 0.9
        again = found.losses_again()
        moved = {k: v.clone() for k, v in model.state_dict().items()}
    ended, after = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}

    def plainly(weights):
        model.load_state_dict(weights)
        torch.manual_seed(8)
        parts = [torch.stack(own_losses(model, trainer.tasks, batch)[0]) for batch in batches]
        return sum(part * size / 12 for part, size in zip(parts, sizes, strict=True)).detach()

    torch.testing.assert_close(found.losses, plainly(before), rtol=1e-4, atol=1e-6)
    assert torch.equal(ended, torch.get_rng_state())
    for key, buffer in model.named_buffers():
        torch.testing.assert_close(after[key], buffer)
    assert int(after["trunk.1.num_batches_tracked"]) == len(sizes)
    if found.losses_again is not None:
        torch.testing.assert_close(again, plainly(moved), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["seen by all", "replaced"])
def test_a_rehearsal_gets_along_with_any_buffer(kind, tmp_path):
    """One that takes no writing, as all its rows are one; and one that the model puts another in the place of."""

    class WithBuffer(MultiTaskModel):
        def __init__(self, model):
            super().__init__(model.trunk, model.heads)
            start = torch.arange(8.0).expand(3, 8) if kind == "seen by all" else torch.zeros(0)
            self.register_buffer("own", start, persistent=False)

        def forward(self, inputs, tasks):
            if kind == "replaced":
                self.own = torch.zeros(len(inputs))
            return super().forward(inputs, tasks)

    def build():
        problem = load_build("jobs/tiny.py:build", PROJECT, config)()
        problem.model = WithBuffer(problem.model)
        return problem

    config = RunConfig(job="jobs/tiny.py:build", method="gls", accumulate=2, epochs=1, batch_size=16)
    series = train(build, config, tmp_path)["series"]
    assert np.isfinite(series["validation/mean_loss"]["value"]).all()
