"""Where and how gradients are taken, against the slow way of slow.py."""

import math

import numpy as np
import pytest
import torch
from rig.plain_training import (
    INDEPENDENT,
    NAMES,
    Plain,
    assert_gradients,
    batch_of,
    combined,
    cut,
    expected,
    flat,
    fresh,
    heads_for,
    index_of,
    own_gradients,
    own_losses,
    seeded,
    trainer_for,
)
from rig.tiny_runs import PROJECT, assert_same, final_weights, tiny, tiny_with_stops
from torch import nn
from torch._functorch import config as functorch
from torch.autograd.graph import get_gradient_edge

from mtlcluster import MultiTaskModel
from mtlcluster.config.run import RunConfig
from mtlcluster.methods.catalog import method, names
from mtlcluster.training.gradients.jacobian import Jacobian
from mtlcluster.training.train import load_build, train

ALL = [0, 1, 2]
GRADIENTS = [{"name": n, **({"aggregator": "UPGrad"} if n == "torchjd" else {})} for n in names("gradient")]
NEEDING = [g for g in GRADIENTS if method("gradient", g["name"]).constants["needs"] != "nothing"]
GRAMIAN = [g for g in NEEDING if method("gradient", g["name"]).constants["needs"] == "gramian"]
WEIGHTINGS = [
    {"name": n, **({"weights": {"class": 2.0, "value": 0.5, "far": 1.0}} if n == "static" else {})}
    for n in names("weighting")
]


def name_of(value):
    return value["name"] if isinstance(value, dict) and "name" in value else str(value)


def data(samples=12, into=12):
    return torch.randn(samples, into, generator=torch.Generator().manual_seed(1))


def step(trainer, batches, active=ALL, **options):
    trainer.optimizer.zero_grad()
    trainer.weighting.zero_grad()
    return trainer.update(batches, active, **options)


def gradients(trainer):
    return {n: None if p.grad is None else p.grad.clone() for n, p in trainer.model.named_parameters()}


# Trunks of every shape ------------------------------------------------------------------------------------------------


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


def test_heads_that_hide_their_representation_are_named(tmp_path):
    class Hidden(Plain):
        def forward(self, inputs, tasks):
            h = self.trunk(inputs)
            return {task: self.heads[task].forward(h) for task in tasks}

    trainer = trainer_for(seeded(Hidden), data(), tmp_path, {"gradient": {"name": "mgda", "at": "representation"}})
    with pytest.raises(ValueError, match="no head is called as a module"):
        step(trainer, [batch_of(trainer)])


# Approximations -------------------------------------------------------------------------------------------------------


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
        return self.last(self.trunk(inputs).tanh()), self.second(inputs).tanh()

    def heads_of(self, points, tasks):
        a, b = points
        give = {"class": lambda h: h(a), "value": lambda h: h(a, more=b), "far": lambda h: h(b)}
        return {task: give[task](self.heads[task]) for task in tasks}

    def forward(self, inputs, tasks):
        return self.heads_of(self.points(inputs), tasks)


class OneRepresentation(Plain):
    def points(self, inputs):
        return (self.trunk(inputs),)


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
        np.testing.assert_allclose(found.choice.norms, rows.norm(dim=1), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.choice.weights, a, rtol=1e-3, atol=1e-5)
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


# Every k steps --------------------------------------------------------------------------------------------------------


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
        if found.choice is not None:
            a = found.choice.weights
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


# Accumulation ---------------------------------------------------------------------------------------------------------


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


def test_random_weights_are_drawn_once_a_step(tmp_path):
    trainer = trainer_for(seeded(Plain), data(), tmp_path, "rlw", accumulate=3)
    slots = fresh(trainer, "rlw")
    for _ in range(3):
        found = step(trainer, cut(batch_of(trainer), [4, 4, 4]))
        slots[1].begin_step()
        torch.testing.assert_close(found.weights, torch.softmax(slots[1].draw, 0))
    assert torch.equal(trainer.generator.get_state(), slots[1].context.generator.get_state())


# Precision ------------------------------------------------------------------------------------------------------------


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
        seen[kind] = found.choice
        trainer.update.kept = None
        for _ in range(2):
            trainer._train_step([batch_of(trainer)])
        assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    if seen["fp32"] is not None:
        np.testing.assert_allclose(seen[precision].cosines, seen["fp32"].cosines, rtol=0, atol=0.03)
        torch.testing.assert_close(seen[precision].norms, seen["fp32"].norms, rtol=0.03, atol=1e-3)
    if gradient["name"] in INDEPENDENT:
        torch.testing.assert_close(seen[precision].weights, seen["fp32"].weights, rtol=0.1, atol=0.1)


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
    assert (plain.choice is None) == (scaled.choice is None)
    for name in ("cosines", "norms", "weights"):
        a, b = (getattr(update.choice, name, None) for update in (plain, scaled))
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


def test_the_weights_of_an_overflow_are_not_kept(tmp_path):
    """With `every` they would be used for the steps to come."""
    trainer = trainer_for(seeded(Plain), data(), tmp_path, {"gradient": {"name": "mgda", "every": 5}})
    found = step(trainer, [batch_of(trainer)], scale=2.0**127)
    trainer.update.learn(found)
    found = step(trainer, [batch_of(trainer)])
    assert found.choice is not None
    assert found.choice.weights.sum() == pytest.approx(1)


# Clipping and compiling -----------------------------------------------------------------------------------------------


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


# Diagnostics ----------------------------------------------------------------------------------------------------------


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


def test_representations_in_half_precision_have_products_beyond_their_range():
    rows = torch.tensor([[300.0, 400.0], [-300.0, 400.0]]).half()
    jacobian = Jacobian(2, edges=[get_gradient_edge(torch.zeros(2, requires_grad=True))])
    for task, row in enumerate(rows):
        jacobian.add(task, [row])
    assert jacobian.gramian().tolist() == [[250000, 70000], [70000, 250000]]


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


@pytest.mark.parametrize("method", ["round_robin", "sequential"])
def test_a_head_that_comes_in_later_finds_momentum_of_its_own(method, tmp_path):
    series = tiny(tmp_path, method=method, optimizer={"name": "sgd", "lr": 0.01}, gradient_clip=1.0)["series"]
    assert np.isfinite(series["validation/mean_loss"]["value"]).all()


def test_momentum_begins_at_nothing_where_fp16_leaves_out_the_first_step(tmp_path):
    config = {"name": "sgd", "lr": 1e-4, "momentum": 0.9}
    series = tiny(tmp_path, precision="fp16", optimizer=config, epochs=6, batch_size=8)["series"]
    assert np.isnan(series["gradient_norm"]["value"][0])  # left out
    assert series["gradient_norm"]["value"][-1] < 100
