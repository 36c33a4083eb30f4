"""The Gramian at the representation or at the last shared layer."""

import numpy as np
import pytest
import torch
from rig.gradient_steps import OneRepresentation, data, step
from rig.plain_training import (
    NAMES,
    Plain,
    assert_gradients,
    batch_of,
    combined,
    cut,
    flat,
    fresh,
    own_gradients,
    own_losses,
    seeded,
    trainer_for,
)
from torch import nn

from mtlcluster import MultiTaskModel


def test_heads_that_hide_their_representation_are_named(tmp_path):
    class Hidden(Plain):
        def forward(self, inputs, tasks):
            h = self.trunk(inputs)
            return {task: self.heads[task].forward(h) for task in tasks}

    trainer = trainer_for(seeded(Hidden), data(), tmp_path, {"gradient": {"name": "mgda", "at": "representation"}})
    with pytest.raises(ValueError, match="no head is called as a module"):
        step(trainer, [batch_of(trainer)])


class TwoRepresentations(MultiTaskModel):
    def __init__(self):
        class Both(nn.Linear):
            def forward(self, a, more=None):
                return super().forward(a if more is None else a + more)

        heads = {"class": Both(8, 3), "value": Both(8, 1), "far": Both(8, 1)}
        super().__init__(nn.Linear(12, 8), heads)
        self.second = nn.Linear(12, 8)
        self.last = nn.Linear(8, 8)

    def points(self, inputs):
        second = self.second(inputs).tanh()
        return self.last(self.trunk(inputs).tanh()), second

    def heads_of(self, points, tasks):
        a, b = points
        give = {"class": lambda h: h(a), "value": lambda h: h(a, more=b), "far": lambda h: h(b)}
        return {task: give[task](self.heads[task]) for task in tasks}

    def forward(self, inputs, tasks):
        return self.heads_of(self.points(inputs), tasks)


@pytest.mark.parametrize("sizes", [[12], [5, 7]], ids=str)
@pytest.mark.parametrize("weighting", ["equal", "gradnorm", "scale_invariant"])
@pytest.mark.parametrize("build", [OneRepresentation, TwoRepresentations])
@pytest.mark.parametrize("at", ["representation", "last_layer"])
@pytest.mark.parametrize("gradient", ["upgrad", "mgda"])
def test_weights_of_the_gramian_at_another_place(gradient, at, build, weighting, sizes, tmp_path):
    """Missing labels are spread unevenly over the micro-batches."""
    full = {"weighting": weighting, "gradient": {"name": gradient, "at": at}}
    model = seeded(build)
    trainer = trainer_for(model, data(), tmp_path, full, missing=True, accumulate=len(sizes))
    batch = batch_of(trainer)
    _, w8, by = fresh(trainer, full)
    for _ in range(2):
        found = step(trainer, cut(batch, sizes))
        losses, _ = own_losses(model, trainer.tasks, batch)
        leaf = torch.stack(losses).detach().requires_grad_()
        w = torch.autograd.grad(w8(leaf, slice(None)), leaf)[0].double()
        last = [p for p in model.parameters() if p.ndim > 1 and p.shape[0] not in (1, 3)][-1]
        if at == "last_layer":
            rows = flat(own_gradients(losses, [last]), [last])
        else:  # the forward once more, from points of its own
            points = [p.detach().requires_grad_() for p in model.points(batch[0])]
            outputs = (
                {t: model.heads[t](points[0]) for t in NAMES} if len(points) == 1 else model.heads_of(points, NAMES)
            )
            own = []
            for task in trainer.tasks:
                known = task.labelled(batch[1][task.name])
                known = torch.arange(12) if known is None else known
                own.append(task.loss(outputs[task.name][known], batch[1][task.name][known]))
            rows = flat(own_gradients(own, points), points)
        weighted = w[:, None] * rows
        a = by.weights(weighted @ weighted.T, slice(None))
        np.testing.assert_allclose(found.aggregation.norms, rows.norm(dim=1), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.aggregation.factors, a, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found.weights.double(), w, rtol=1e-4, atol=1e-6)
        named = dict(model.named_parameters())
        every = own_gradients(losses, list(named.values()))
        trunk, heads = combined(every, (a * w).tolist()), combined(every, w.tolist())
        wanted = {n: h if n.startswith("heads.") else t for n, t, h in zip(named, trunk, heads, strict=True)}
        assert_gradients(model, wanted, rel=1e-3)
        if weighting == "gradnorm":
            norms = flat(own_gradients(losses, [last]), [last]).norm(dim=1).float()  # 0 where not reached
            torch.testing.assert_close(found.norms, norms, rtol=1e-4, atol=1e-6)
            w8.observe_gradients(leaf.detach(), norms, slice(None))
        trainer.update.learn(found)
