"""What a job says of its tasks and its model: which names tasks may have, and which layer is the last shared one."""

import copy
import re

import pytest
import torch
from rig.plain_training import trainer_for
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train

# Words that torch's ModuleDict and modules have a meaning for.
WORDS = ["type", "values", "items", "keys", "train", "forward", "training", "heads", "_modules", "x y", "情感", "a_b-c"]


def plain_task(name):
    return Task(name, lambda outputs, targets: ((outputs[:, 0] - targets) ** 2).mean(), "regression")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a ",
        "\u00a0a",
        "a.b",
        "a/b",
        "it's",
        'a"b',
        "a\nb",
        "a\tb",
        "n\0ul",
        "\x1b[31m",
        "\x9b",
        "half \ud800",
        5,
    ],
)
def test_a_name_that_could_not_stand_everywhere_is_refused_in_a_sentence(name):
    sentence = (
        "a task's name should be a text without dots, slashes, quotes and control characters, and without blanks at "
        f"its ends, found {name!r}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        plain_task(name)


@pytest.mark.parametrize("method", ["equal", "pcgrad"])
def test_tasks_may_be_called_as_torch_calls_things(tmp_path, method):
    def build():
        inputs = torch.randn(20, 3)
        data = TensorData(inputs, {name: inputs[:, 0] + i for i, name in enumerate(WORDS)})
        model = MultiTaskModel(nn.Linear(3, 3), {name: nn.Linear(3, 1) for name in WORDS})
        return Problem(model, [plain_task(name) for name in WORDS], data, data, data)

    settings = {"method": method, "batch_size": 10, "epochs": 3}
    history = train(build, settings, tmp_path)
    again = train(build, settings, tmp_path)  # from the last checkpoint on
    assert (
        again["series"]["train/type/loss"]["value"].tolist() == history["series"]["train/type/loss"]["value"].tolist()
    )
    losses = [history["series"][f"validation/{name}/loss"]["value"] for name in WORDS]
    assert all(loss[0] > loss[-1] for loss in losses), "every task trains"


def test_a_state_dict_has_the_keys_and_the_order_that_checkpoints_have():
    """`heads.<task>.…`, in the order in which the heads were given; older checkpoints load for that reason."""
    names = ["b", "type", "a"]
    model = MultiTaskModel(nn.Linear(2, 2), {name: nn.Linear(2, 1) for name in names})
    heads = [f"heads.{name}.{kind}" for name in names for kind in ("weight", "bias")]
    assert list(model.state_dict()) == ["trunk.weight", "trunk.bias", *heads]
    assert [name for name, _ in model.named_parameters()] == list(model.state_dict())
    assert len(model.shared_parameters()) == 2
    other = MultiTaskModel(nn.Linear(2, 2), {name: nn.Linear(2, 1) for name in names})
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.heads["type"].weight, model.heads["type"].weight)
    assert list(other.heads) == list(other.heads.keys()) == names


class Trunk(nn.Module):
    """Calls `first`, then `last`; registers them in this order or the other."""

    def __init__(self, in_order):
        super().__init__()
        layers = {"first": nn.Linear(5, 8), "last": nn.Sequential(nn.Linear(8, 6), nn.Tanh())}
        for name in layers if in_order else reversed(layers):
            self.add_module(name, layers[name])

    def forward(self, inputs):
        return self.last(self.first(inputs).relu())


def make(in_order=False, last_shared_layer=None):
    heads = {"class": nn.Linear(6, 3), "value": nn.Linear(6, 1)}
    return MultiTaskModel(Trunk(in_order), heads, last_shared_layer)


@pytest.mark.parametrize("name", ["trunk.last", "trunk.last.0"])
def test_gradnorm_takes_the_layer_that_is_named_else_the_one_used_last(tmp_path, name):
    """Then it does not matter in which order the layers are registered. A name in the option comes before the model's.
    Without one, `layer: null` takes the one that is registered last.
    """
    assert make().last_shared_weight().shape == (8, 5), "the last one that is registered"
    weights = copy.deepcopy(make().state_dict())
    models = [(make(in_order=True), None), (make(last_shared_layer=name), "used_last"), (make(), name)]
    models += [(make(), "used_last"), (make(last_shared_layer="trunk.first"), name)]
    models += [(make(), None), (make(last_shared_layer="trunk.first"), "used_last")]
    found, layers = [], []
    for number, (model, layer) in enumerate(models):
        model.load_state_dict(weights)
        method = {"weighting": {"name": "gradnorm", "layer": layer}}
        trainer = trainer_for(model, torch.linspace(-1, 1, 60).view(12, 5), tmp_path / str(number), method)
        history = trainer.run()
        found.append(history["series"]["weight/value"]["value"].tolist())
        layers.append(history["info"]["gradient_layer"])
    assert layers == [*["trunk.last.0"] * 5, *["trunk.first"] * 2]
    assert all(same == found[0] for same in found[:5])
    assert found[5] == found[6] != found[0]


class Named(MultiTaskModel):
    last_shared_layer = "trunk.last"


def test_a_subclass_may_name_it_as_a_class_attribute_or_later():
    model = Named(Trunk(in_order=False), {})
    assert model.last_shared_weight() is model.trunk.last[0].weight
    model.last_shared_layer = "trunk.first"
    assert model.last_shared_weight() is model.trunk.first.weight
    assert not any("last_shared" in key for key in model.state_dict())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trunk.lsat", "last_shared_layer: the model has no module 'trunk.lsat'; did you mean 'trunk.last'?"),
        ("heads.value", "last_shared_layer: 'heads.value' has no trainable weight that is shared by the tasks"),
        ("trunk.last.1", "last_shared_layer: 'trunk.last.1' has no trainable weight that is shared by the tasks"),
        ("trunk.first", "last_shared_layer: 'trunk.first' has no trainable weight that is shared by the tasks"),
        (nn.Linear(1, 1), "last_shared_layer should be the name of a layer, such as 'trunk.2', found a Linear"),
    ],
)
@pytest.mark.parametrize("method", ["gradnorm", {"gradient": {"name": "mgda", "at": "last_layer"}}])
def test_what_is_no_trainable_shared_layer_is_refused_in_a_sentence(tmp_path, name, sentence, method):
    model = make()
    model.last_shared_layer = name
    model.trunk.first.requires_grad_(False)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        trainer_for(model, torch.randn(12, 5), tmp_path, method)


class Forgetful(MultiTaskModel):
    def forward(self, inputs, tasks):
        return super().forward(inputs, [task for task in tasks if task != "b"])


def test_a_forward_that_leaves_out_a_task_is_refused_in_a_sentence(tmp_path):
    x = torch.randn(8, 3)
    data = TensorData(x, {name: x.sum(1) for name in "ab"})
    model = Forgetful(nn.Linear(3, 4), {name: nn.Linear(4, 1) for name in "ab"})
    problem = Problem(model, [plain_task("a"), plain_task("b")], data, data)
    with pytest.raises(ValueError, match="the model's forward gave no output for task 'b'"):
        train(lambda: problem, {"epochs": 1}, tmp_path)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("classes", [1, 0])
def test_fewer_than_two_classes_are_refused_in_a_sentence(classes, dense):
    message = f"task 'a' should have at least 2 classes, found {classes}; yes or no is Task.binary"
    with pytest.raises(ValueError, match=message):
        Task.classification("a", classes, dense=dense)
