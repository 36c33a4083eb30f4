"""Steps in half precision, with and without the loss scale of fp16."""

import math

import numpy as np
import pytest
import torch
from rig.gradient_steps import GRADIENTS, NEEDING, data, gradients, name_of, step
from rig.plain_training import (
    INDEPENDENT,
    Plain,
    batch_of,
    seeded,
    trainer_for,
)
from torch.autograd.graph import get_gradient_edge

from mtlcluster.training.gradients.jacobian import Jacobian


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("gradient", GRADIENTS, ids=name_of)
def test_every_gradient_method_trains_in_half_precision(gradient, precision, tmp_path):
    """The Gramian it sees is nearly that of fp32, whatever the scaler multiplies with."""
    full = {"weighting": "equal", "gradient": gradient}
    seen = {}
    for kind in ("fp32", precision):
        trainer = trainer_for(seeded(Plain), data(), tmp_path / kind, full, precision=kind)
        if kind == "fp16":
            trainer.scaler.update(2.0**8)  # at its first scale the first steps would overflow
        found = step(trainer, [batch_of(trainer)], scale=trainer.scaler.get_scale())
        seen[kind] = found.aggregation
        trainer.update.cache.kept = None
        for _ in range(2):
            trainer._train_step([batch_of(trainer)])
        assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    if seen["fp32"] is not None:
        np.testing.assert_allclose(seen[precision].cosines, seen["fp32"].cosines, rtol=0, atol=0.03)
        torch.testing.assert_close(seen[precision].norms, seen["fp32"].norms, rtol=0.03, atol=1e-3)
    if gradient["name"] in INDEPENDENT:
        torch.testing.assert_close(seen[precision].factors, seen["fp32"].factors, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm"])
@pytest.mark.parametrize(
    "gradient", [*GRADIENTS, *({"name": "upgrad", "at": at} for at in ("representation", "last_layer"))], ids=str
)
def test_the_scale_of_fp16_changes_nothing_but_the_gradients_scale(gradient, weighting, tmp_path):
    full, scale = {"weighting": weighting, "gradient": gradient}, 2.0**10
    found = {}
    for times in (1.0, scale):
        trainer = trainer_for(seeded(Plain), data(), tmp_path / str(times), full)
        for _ in range(2):  # what is smoothed or kept, too
            update = step(trainer, [batch_of(trainer)], scale=times)
            trainer.update.learn(update)
        learned = {f"w{i}": p.grad for i, p in enumerate(trainer.weighting.parameters())}
        found[times] = update, {n: g / times for n, g in {**gradients(trainer), **learned}.items()}
    (plain, wanted), (scaled, got) = found[1.0], found[scale]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    assert (plain.aggregation is None) == (scaled.aggregation is None)
    for name in ("cosines", "norms", "factors"):
        a, b = (getattr(update.aggregation, name, None) for update in (plain, scaled))
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    if plain.norms is not None:
        torch.testing.assert_close(plain.norms, scaled.norms)


@pytest.mark.parametrize(
    "full",
    [
        *({"weighting": "equal", "gradient": g} for g in NEEDING),
        {"weighting": "gradnorm", "gradient": {"name": "gradvac", "at": "representation"}},
        {"weighting": "famo"},
        {"weighting": "imtl_l", "gradient": "moco"},
    ],
    ids=str,
)
def test_an_overflow_leaves_the_methods_clean(full, tmp_path):
    """A scale at which gradients are infinite: no number that is none gets into a state, and the gradients say it."""
    trainer = trainer_for(seeded(Plain), data(), tmp_path, full)
    for scale in (1.0, math.inf, 1.0):
        found = step(trainer, [batch_of(trainer)], scale=scale)
        bad = not all(bool(p.grad.isfinite().all()) for p in trainer.model.parameters() if p.grad is not None)
        assert bad == (scale == math.inf)
        trainer.update.learn(found)
        states = [*trainer.gradient.buffers(), *trainer.weighting.buffers()]
        first = trainer.weighting.initial if hasattr(trainer.weighting, "initial") else None
        assert all(bool(s.isfinite().all()) for s in states if s is not first)


def test_representations_in_half_precision_have_products_beyond_their_range():
    rows = torch.tensor([[300.0, 400.0], [-300.0, 400.0]]).half()
    representation = torch.zeros(2, dtype=torch.half, requires_grad=True)
    jacobian = Jacobian(2, edges=[get_gradient_edge(representation)])
    jacobian.add_gradients([(representation * row).sum() for row in rows])
    assert jacobian.gramian().tolist() == [[250000, 70000], [70000, 250000]]
