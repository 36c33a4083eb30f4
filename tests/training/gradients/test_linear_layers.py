"""Linear layers without their gradients (training/linear.py) on odd architectures, against plain gradients."""

import pytest
import torch
import torch.nn.functional as F
from rig.plain_training import (
    Plain,
    assert_gradients,
    batch_of,
    cut,
    expected,
    fresh,
    heads_for,
    own_gradients,
    own_losses,
    seeded,
    trainer_for,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

from mtlcluster import MultiTaskModel
from mtlcluster.training.gradients.linear_layers import LinearLayers

METHODS = ["pcgrad", "upgrad", "mgda"]
WIDTH, INTO = 20, 12


def linear(into=WIDTH, out=WIDTH, **options):
    return nn.Linear(into, out, **options)


def in_a_row(*layers):
    return MultiTaskModel(nn.Sequential(*layers), heads_for(WIDTH))


class By(nn.Module):
    """A trunk that is a function of its layers, which are called l0, l1, …"""

    def __init__(self, function, *layers):
        super().__init__()
        self.function = function
        for i, layer in enumerate(layers):
            self.add_module(f"l{i}", layer)

    def forward(self, x):
        return self.function(x, *self.children())


def by(function, *layers):
    return MultiTaskModel(By(function, *layers), heads_for(WIDTH))


def tied():
    a, b = linear(), linear()
    b.weight = a.weight
    return by(lambda x, i, a, b: b(a(i(x)).tanh()), linear(INTO), a, b)


def half_frozen():
    a, b = linear(), linear()
    a.weight.requires_grad_(False)
    b.bias.requires_grad_(False)
    return by(lambda x, i, a, b: b(a(i(x).tanh()).tanh()), linear(INTO), a, b)


def under_no_grad(x, a, b, c):
    """`b` also looks on; `c` is only called where nothing learns."""
    with torch.no_grad():
        gate = b(a(x)).sigmoid() + c(a(x))
    return gate * b(a.forward(x)).tanh()


def with_a_vector(x, i, a, v):
    """A layer that is called with one vector, a parameter."""
    return i(x).tanh() * a(v.weight[0]).sigmoid()


class ReachesSome(Plain):
    def __init__(self):
        super().__init__()
        self.branch = linear()

    def forward(self, inputs, tasks):
        h = self.trunk(inputs)
        return {t: self.heads[t](self.branch(h).tanh() if t == "far" else h) for t in tasks}


def old_weight_norm():
    layer = torch.nn.utils.weight_norm(linear())
    return by(lambda x, i, a: a(i(x).tanh()), linear(INTO), layer)


def hooked():
    """A hook of its user's own changes what the layer gives."""
    model = seeded(Plain)
    model.trunk[2].register_forward_hook(lambda module, inputs, output: output * module.weight.norm())
    return model


def doubled():
    model = seeded(Plain)
    model.trunk[2].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


def attention(x, i, m, out):
    h = i(x)
    return out(m(h, h, h)[0].mean(1))


X, SHORT, LONG = (4, INTO), (4, 3, INTO), (4, 20, INTO)
IN = "trunk.l0"
# By name: the model, its inputs' shape, and the layers that go without their gradients.
CASES = {
    "plain": (Plain, X, {"trunk.0", "trunk.2"}),
    "many samples": (Plain, (40, INTO), set()),
    "tied": (tied, X, {IN}),
    "as a plain tensor, too": (
        lambda: by(lambda x, i, a: F.linear(a(i(x)).tanh(), a.weight), linear(INTO), linear()), X, {IN}),
    "its bias as a plain tensor, too": (
        lambda: by(lambda x, i, a: a(i(x)).tanh() + 3 * a.bias, linear(INTO), linear()), X, {IN}),
    "past its call": (lambda: by(lambda x, i, a: a.forward(a(i(x)).tanh()), linear(INTO), linear()), X, {IN}),
    "a penalty on the weight": (
        lambda: by(lambda x, i, a: a(i(x)) + a.weight.square().sum(), linear(INTO), linear()), X, {IN}),
    "called twice": (lambda: by(lambda x, i, a: a(a(i(x)).tanh()), linear(INTO), linear()), X, {IN}),
    "short sequences": (
        lambda: by(lambda x, i, a: a(i(x).tanh()).mean(1), linear(INTO), linear()), SHORT, {"trunk.l1"}),
    "long sequences": (lambda: by(lambda x, i, a: a(i(x).tanh()).mean(1), linear(INTO), linear()), LONG, set()),
    "sequences turned": (
        lambda: by(lambda x, i, a: a(i(x).tanh().transpose(0, 1)).mean(0), linear(INTO), linear()), SHORT,
        {"trunk.l1"}),
    "convolutions": (
        lambda: in_a_row(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), linear(48), nn.ReLU()), (4, 1, 6, 6),
        {"trunk.3"}),
    "no bias": (
        lambda: in_a_row(linear(INTO, bias=False), nn.Tanh(), linear(bias=False)), X, {"trunk.0", "trunk.2"}),
    "half frozen": (half_frozen, X, {IN}),
    "in place": (
        lambda: in_a_row(linear(INTO), nn.ReLU(inplace=True), linear(), nn.ReLU(inplace=True)), X,
        {"trunk.0", "trunk.2"}),
    "in place on sequences": (
        lambda: by(lambda x, i, a: a(i(x).tanh()).relu_().mean(1), linear(INTO), linear()), SHORT, None),
    "residual": (
        lambda: by(lambda x, i, a, b: (lambda h: h + b(a(h)))(i(x)), linear(INTO), linear(), linear()), X,
        {IN, "trunk.l1", "trunk.l2"}),
    "sums only": (       # autograd gives the same tensor out for both layers, and for both biases
        lambda: by(lambda x, i, a: i(x) + a(x), linear(INTO), linear(INTO)), X, {IN, "trunk.l1"}),
    "layer norm": (
        lambda: in_a_row(linear(INTO), nn.LayerNorm(WIDTH), nn.GELU(), linear()), X, {"trunk.0", "trunk.3"}),
    "not called": (lambda: by(lambda x, i, a: i(x).tanh(), linear(INTO), linear()), X, {IN}),
    "reached by some": (ReachesSome, X, {"trunk.0", "trunk.2", "branch"}),
    "no gradient": (lambda: by(under_no_grad, linear(INTO), linear(), linear()), X, {"trunk.l1"}),
    "a vector": (
        lambda: by(with_a_vector, linear(INTO), linear(), nn.Embedding(1, WIDTH)), X, {IN, "trunk.l1"}),
    "named input": (
        lambda: by(lambda x, i, a: a(input=i(x).tanh()), linear(INTO), linear()), X, {IN, "trunk.l1"}),
    "checkpoint": (
        lambda: by(lambda x, i, a: checkpoint(lambda h: a(h).tanh(), i(x), use_reentrant=False),
                   linear(INTO), linear()), X, {IN, "trunk.l1"}),
    "old weight norm": (old_weight_norm, X, {IN}),
    "new weight norm": (
        lambda: by(lambda x, i, a: a(i(x).tanh()), linear(INTO),
                   nn.utils.parametrizations.weight_norm(linear())), X, {IN}),
    "hooked": (hooked, X, {"trunk.0"}),
    "doubled by a hook": (doubled, X, {"trunk.0"}),
    "attention": (
        lambda: by(attention, linear(INTO), nn.MultiheadAttention(WIDTH, 4, batch_first=True), linear()),
        SHORT, {"trunk.l2"}),
    "transformer": (
        lambda: by(lambda x, i, m: m(i(x)).mean(1), linear(INTO),
                   nn.TransformerEncoderLayer(WIDTH, 4, 32, dropout=0.0, batch_first=True)),
        SHORT, {"trunk.l1.linear1", "trunk.l1.linear2"}),
    "lstm": (
        lambda: by(lambda x, i, m: m(i(x))[0][:, -1], linear(INTO), nn.LSTM(WIDTH, WIDTH, batch_first=True)), SHORT,
        set()),
}  # fmt: skip


def spied(updater):
    """Lists the names of the layers that `updater` takes by this way, one set a step."""
    found, names, usable = [], {id(m): n for n, m in updater.model.named_modules()}, updater.parts.linear_layers.usable

    def spy(layers, losses):
        layers = usable(layers, losses)
        found.append({names[id(layer.module)] for layer in layers})
        return layers

    updater.parts.linear_layers.usable = spy
    return found


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_gradients_without_those_of_linear_layers(case, method, tmp_path):
    """At the first step, when layers are checked, and at the second; and without this way."""
    build, shape, used = CASES[case]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = seeded(build)
    trainer = trainer_for(model, inputs, tmp_path, method, missing=True)
    taken = spied(trainer.update)
    batch = batch_of(trainer)
    slots = fresh(trainer, method)
    for _ in range(2):
        wanted = expected(model, trainer.tasks, batch, *slots[1:])[0]
        trainer.optimizer.zero_grad()
        trainer.update([batch], [0, 1, 2])
        assert_gradients(model, wanted)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 0.9
    assert used is None or taken == [used, used]
    if used is not None and method == METHODS[0]:
        trainer.update.parts.linear_layers = LinearLayers(model, [])
        trainer.update.gradient = fresh(trainer, method)[2]
        wanted = expected(model, trainer.tasks, batch, *fresh(trainer, method)[1:])[0]
        trainer.optimizer.zero_grad()
        trainer.update([batch], [0, 1, 2])
        assert_gradients(model, wanted)


def test_a_layer_of_some_steps_only(tmp_path):
    """First what it gives is not used, then it is called once, then twice, then once more."""
    times = [0, 1, 2, 1]

    def trunk(x, i, a):
        h = i(x).tanh()
        if not times[0]:
            a(h)
        for _ in range(times[0]):
            h = a(h).tanh()
        return h

    model = seeded(by, trunk, linear(INTO), linear())
    trainer = trainer_for(model, torch.randn(X), tmp_path, "upgrad")
    taken, slots = spied(trainer.update), fresh(trainer, "upgrad")
    while times:
        trainer.optimizer.zero_grad()
        trainer.update([batch_of(trainer)], [0, 1, 2])
        assert_gradients(model, expected(model, trainer.tasks, batch_of(trainer), *slots[1:])[0])
        times.pop(0) if len(times) > 1 else times.clear()
    assert taken == [{IN}, {IN, "trunk.l1"}, {IN}, {IN, "trunk.l1"}]


@pytest.mark.parametrize("hidden", ["by a gate of zero", "by the tasks at hand"])
def test_a_use_of_a_weight_that_has_no_gradient_at_the_first_step(hidden, tmp_path):
    class Hidden(Plain):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.tensor(0.0))

        def forward(self, inputs, tasks):
            h = self.trunk[1](self.trunk[0](inputs))
            out = self.trunk[2](h).tanh()
            if hidden == "by a gate of zero":
                out = out + self.gate * F.linear(h, self.trunk[2].weight)
            elif len(tasks) == 3:
                out = out + F.linear(h, self.trunk[2].weight)
            else:
                out = h  # what the layer gives is not used
            return {task: self.heads[task](out) for task in tasks}

    model = seeded(Hidden)
    trainer = trainer_for(model, torch.randn(X), tmp_path, "upgrad")
    taken, slots = spied(trainer.update), fresh(trainer, "upgrad")
    for active, gate in (([0, 1], 0.0), ([0, 1, 2], 0.5)):
        model.gate.data.fill_(gate)
        trainer.optimizer.zero_grad()
        trainer.update([batch_of(trainer)], active)
        tasks = [trainer.tasks[i] for i in active]
        assert_gradients(model, expected(model, tasks, batch_of(trainer), *slots[1:])[0])
    assert taken == [{"trunk.0"}] * 2


@pytest.mark.parametrize("method", METHODS)
def test_one_task_alone(method, tmp_path):
    model = seeded(Plain, names=("far",))
    trainer = trainer_for(model, torch.randn(4, INTO), tmp_path, method)
    taken = spied(trainer.update)
    trainer.update([batch_of(trainer)], [0])
    assert_gradients(model, expected(model, trainer.tasks, batch_of(trainer), *fresh(trainer, method)[1:])[0])
    assert taken == [{"trunk.0", "trunk.2"}]


@pytest.mark.parametrize("linear_layers", [True, False])
def test_an_input_that_is_changed_after_its_use_is_autograds_own_error(linear_layers, tmp_path):
    """Not a wrong gradient in silence; also of a layer that has been checked before."""
    factors = [None, 2]

    def trunk(x, i, a):
        h = x.clone()  # of a first layer, where no backward goes through to notice it
        out = a(i(h).tanh())
        if factor := factors.pop(0):
            with torch.no_grad():
                h.mul_(factor)
        return out

    model = seeded(by, trunk, linear(INTO), linear())
    trainer = trainer_for(model, torch.randn(X), tmp_path, "pcgrad")
    if not linear_layers:
        trainer.update.parts.linear_layers = LinearLayers(model, [])
    trainer.update([batch_of(trainer)], [0, 1, 2])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        trainer.update([batch_of(trainer)], [0, 1, 2])


@pytest.mark.parametrize(
    "settings",
    [{"precision": "bf16"}, {"accumulate": 2}, {"method": "graddrop"}, {"method": "equal"}, {"compile": True},
     {"method": {"gradient": {"name": "pcgrad", "at": "representation"}}}],
    ids=str,
)  # fmt: skip
def test_where_it_must_not_be_used_it_is_not(settings, tmp_path):
    model = seeded(Plain)
    settings = {"method": "pcgrad", **settings}
    trainer = trainer_for(model, torch.randn(X), tmp_path, **settings)
    if settings.get("compile"):
        assert not trainer.update.parts.linear_layers.modules
        return
    taken = spied(trainer.update)
    trainer.update(cut(batch_of(trainer), [2, 2]) if "accumulate" in settings else [batch_of(trainer)], [0, 1, 2])
    assert taken in ([], [set()], [set(), set()])


def test_what_gradnorm_looks_at_keeps_its_gradient(tmp_path):
    """Together with a Gramian method: the last shared layer's, of which GradNorm wants the norms."""
    method = {"weighting": {"name": "gradnorm", "layer": "trunk.2"}, "gradient": "upgrad"}
    model = seeded(Plain)
    trainer = trainer_for(model, torch.randn(X), tmp_path, method)
    taken = spied(trainer.update)
    found = trainer.update([batch_of(trainer)], [0, 1, 2])
    assert taken == [{"trunk.0"}]
    wanted, losses, _, _ = expected(model, trainer.tasks, batch_of(trainer), *fresh(trainer, method)[1:])
    assert_gradients(model, wanted)
    rows = own_gradients(own_losses(model, trainer.tasks, batch_of(trainer))[0], [model.trunk[2].weight])
    torch.testing.assert_close(found.norms, torch.stack([row[0].norm() for row in rows]))
    torch.testing.assert_close(found.losses, losses)
