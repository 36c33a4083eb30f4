"""The step as a whole: the combined gradient, compiled models, and what the history says of the gradients."""

import math

import numpy as np
import pytest
import torch
from rig.gradient_steps import ALL, OneRepresentation, data, gradients, step
from rig.plain_training import (
    NAMES,
    Plain,
    batch_of,
    cut,
    expected,
    flat,
    fresh,
    index_of,
    own_gradients,
    own_losses,
    seeded,
    trainer_for,
)
from torch import nn
from torch._functorch import config as functorch


@pytest.mark.parametrize("gradient", ["sum", "upgrad", "graddrop"])
def test_the_combined_gradient_is_clipped(gradient, tmp_path):
    model = seeded(Plain)
    trainer = trainer_for(
        model, data(), tmp_path, gradient, gradient_clip=0.1,
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}, scheduler={"warmup": 0.0},
    )  # fmt: skip
    wanted = expected(model, trainer.tasks, batch_of(trainer), *fresh(trainer, gradient)[1:])[0]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    rate = 0.5 * trainer.rate.factor(0)
    trainer._train_step([batch_of(trainer)])
    norm = math.sqrt(sum(float(g.norm()) ** 2 for g in wanted.values()))
    assert norm > 0.1
    assert float(trainer.recorder.waiting[-1].gradient_norm) == pytest.approx(norm, rel=1e-4)
    for name, parameter in model.named_parameters():
        moved = (before[name] - parameter) / rate
        torch.testing.assert_close(moved, wanted[name] * (0.1 / norm), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("full", "off"),
    [("equal", False), ("famo", False), ("rlw", False), ("gradnorm", True), ("pcgrad", True), ("graddrop", True)],
)
def test_donated_buffers_are_switched_off_only_where_several_backwards_need_it(full, off, tmp_path):
    with functorch.patch(donated_buffer=True):
        trainer_for(seeded(Plain), data(), tmp_path, full, compile=True)
        assert functorch.donated_buffer is not off


@pytest.mark.long
@pytest.mark.parametrize(
    "full",
    ["equal", "famo", "uncertainty", "gradnorm", "upgrad", "graddrop", "moco",
     {"weighting": "famo", "gradient": {"name": "upgrad", "at": "last_layer", "every": 2}}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("sizes", [[12], [6, 6]], ids=str)
@functorch.patch(donated_buffer=True)  # as at the start of a process
def test_every_kind_of_method_compiles(sizes, full, tmp_path, monkeypatch):
    compile_it = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_it(self, backend="aot_eager"))
    found = {}
    torch._dynamo.reset()
    for compiled in (False, True):
        trainer = trainer_for(
            seeded(Plain), data(), tmp_path / str(compiled), full, accumulate=len(sizes), compile=compiled,
            deterministic=False,
        )  # fmt: skip
        steps = found[compiled] = []
        for _ in range(3):
            update = step(trainer, cut(batch_of(trainer), sizes))
            trainer.update.learn(update)
            steps.append((gradients(trainer), update.weights))
    torch.testing.assert_close(found[True], found[False], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    "gradient", ["upgrad", "graddrop", {"name": "mgda", "at": "representation"}, {"name": "mgda", "every": 2}], ids=str
)
def test_the_history_has_what_the_gradients_were_like(gradient, tmp_path):
    """Against the slow way at every step; nothing of tasks that are not there."""
    full = {"weighting": {"name": "static", "weights": {"class": 2.0, "value": 0.5, "far": 1.0}}, "gradient": gradient}
    model = seeded(OneRepresentation)
    trainer = trainer_for(model, data(), tmp_path, full, optimizer={"lr": 0.05})
    _, w8, by = fresh(trainer, full)
    batch, kept, wanted = batch_of(trainer), None, []
    turns = [ALL, [0, 2], ALL, [1], ALL, ALL]
    trainer.schedule.active = lambda number: turns[number]
    trainer.total_steps, trainer.step = len(turns), 0
    every = gradient.get("every", 1) if isinstance(gradient, dict) else 1
    for active in turns:
        losses, _ = own_losses(model, [trainer.tasks[i] for i in active], batch)
        place = index_of(active, trainer.tasks)
        w = torch.autograd.grad(w8(leaf := torch.stack(losses).detach().requires_grad_(), place), leaf)[0].double()
        if by.at == "representation":
            point = model.trunk(batch[0]).detach().requires_grad_()
            own = [
                trainer.tasks[i].loss(model.heads[trainer.tasks[i].name](point), batch[1][trainer.tasks[i].name])
                for i in active
            ]
            rows = flat(own_gradients(own, [point]), [point])
        else:
            shared = list(model.trunk.parameters())
            rows = flat(own_gradients(losses, shared), shared)
        row = {f"weight/{NAMES[i]}": float(x) for i, x in zip(active, w, strict=True)}
        if kept is None or kept[0] != active or kept[1] >= every:
            kept = [active, 0]
            norms, gramian = rows.norm(dim=1), rows @ rows.T
            if by.needs == "gramian":
                weighted = w[:, None] * rows
                a = by.weights(weighted @ weighted.T, place)
                row |= {f"gradient_weight/{NAMES[i]}": float(x) for i, x in zip(active, a, strict=True)}
            cosines = gramian / norms[:, None] / norms
            for k, i in enumerate(active):
                for m, j in enumerate(active):
                    if i < j:
                        row[f"cosine/{NAMES[i]}/{NAMES[j]}"] = float(cosines[k, m])
                        row[f"norm_ratio/{NAMES[i]}/{NAMES[j]}"] = float(norms[k] / norms[m])
            if len(active) > 1:
                row["conflicting_steps"] = float(bool((cosines < 0).any()))
        kept[1] += 1
        wanted.append(row)
        trainer._train_step([batch])
    trainer.recorder.flush()
    series = trainer.recorder.history()["series"]
    kinds = ("weight/", "gradient_weight/", "cosine/", "norm_ratio/", "conflicting_steps")
    columns = [name for name in series if name.startswith(kinds)]
    assert len(columns) == 3 + 3 * (by.needs == "gramian") + 3 + 3 + 1
    for name in columns:
        values = [row.get(name, math.nan) for row in wanted]
        np.testing.assert_allclose(series[name]["value"], values, rtol=2e-3, atol=1e-5, err_msg=name)
    assert any(row.get("conflicting_steps") for row in wanted) or by.at == "representation"


def test_one_plain_backward_has_no_gradients_to_tell_of(tmp_path):
    trainer = trainer_for(seeded(Plain), data(), tmp_path, "gradnorm")
    trainer._train_step([batch_of(trainer)])
    found = trainer.recorder.history()["series"]
    assert not [n for n in found if n.startswith(("cosine/", "norm_ratio/", "gradient_weight/", "conflicting"))]
    assert "weight/class" in found
