"""The shared layer that is used last, and the number of backward passes that a run has made."""

import copy

import pytest
import torch
from rig.plain_training import NAMES, trainer_for
from torch import nn

from mtlcluster import MultiTaskMethod, MultiTaskModel
from mtlcluster.sweep.history import read_history
from mtlcluster.training.callbacks import StopRequested

AT_LAST = {"gradient": {"name": "mgda", "at": "last_layer"}}


class Backwards(nn.Module):
    """Registers its layers in the order opposite to that of their use, between dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(8)
        self.first = nn.Linear(5, 8)

    def forward(self, inputs):
        return self.last(nn.functional.dropout(self.norm(self.first(inputs)), 0.3, self.training)).tanh()


def make() -> MultiTaskModel:
    torch.manual_seed(0)
    return MultiTaskModel(Backwards(), {name: nn.Linear(6, 3 if name == "class" else 1) for name in NAMES})


def inputs() -> torch.Tensor:
    return torch.randn(24, 5, generator=torch.Generator().manual_seed(3))


def trainer(folder, method, model=None, **config):
    return trainer_for(model or make(), inputs(), folder, method, **{"batch_size": 8, **config})


def series(history) -> dict[str, list[float]]:
    return {name: columns["value"].tolist() for name, columns in history["series"].items() if "/loss" in name}


@pytest.mark.parametrize("method", ["gradnorm", AT_LAST])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_layer_used_last_is_found_and_leaves_no_trace(tmp_path, method, accumulate):
    """Dropout and batch norm go on as if the layer had been named."""
    found = trainer(tmp_path / "found", method, accumulate=accumulate).run()
    named = make()
    named.last_shared_layer = "trunk.last"
    expected = trainer(tmp_path / "named", method, named, accumulate=accumulate).run()
    assert found["info"]["gradient_layer"] == expected["info"]["gradient_layer"] == "trunk.last"
    assert series(found) == series(expected)
    assert "gradient_layer" not in trainer(tmp_path / "sum", "equal").run()["info"]


class Stops:
    """Asks to stop at one step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def stopped(folder, method, **config):
    first = trainer(folder, method, **config)
    first.callbacks.should_stop = Stops(4)
    with pytest.raises(StopRequested):
        first.run()
    return first


@pytest.mark.parametrize("method", ["gradnorm", "uncertainty", {"weighting": {"name": "imtl_l", "lr": None}}, AT_LAST])
def test_a_stopped_run_ends_the_same(tmp_path, method):
    whole = trainer(tmp_path / "whole", method).run()
    stopped(tmp_path / "parts", method)
    again = trainer(tmp_path / "parts", method).run()
    assert series(again) == series(whole)
    for key in ("backwards", "gradient_layer"):
        assert again["info"].get(key) == whole["info"].get(key)


def test_a_checkpoint_of_an_older_version_keeps_the_layer_registered_last_and_counts_its_steps(tmp_path):
    method = {"weighting": {"name": "gradnorm", "layer": None}}
    first = stopped(tmp_path, method)
    state = first._state()
    del state["update"]["gradient_layer"], state["backwards"]
    first.checkpoints.save(first.step, state)
    again = trainer(tmp_path, method)
    again._restore()
    assert (again.update.gradient_layer, again.backwards) == ("trunk.first", first.step)


@pytest.mark.parametrize(
    ("method", "each_step"),
    [
        ("equal", 1), ("gradnorm", 1), ("famo", 1), (AT_LAST, 1), ("upgrad", 3), ("graddrop", 3),
        ({"schedule": "round_robin"}, 1), ({"gradient": {"name": "upgrad", "every": 5}}, (3 + 1 + 1 + 1 + 1) / 5),
    ],
)  # fmt: skip
def test_a_history_counts_the_backward_passes_through_the_trunk(tmp_path, method, each_step):
    """Micro-batches of a step count as one."""
    named = make()
    named.last_shared_layer = "trunk.last"
    for accumulate, steps in ((1, 15), (3, 5)):
        folder = tmp_path / str(accumulate)
        trainer(folder, method, copy.deepcopy(named), accumulate=accumulate).run()
        assert read_history(folder / "history.pkl")["info"]["backwards"] == steps * each_step


def test_in_a_loop_of_ones_own_it_is_the_layer_that_the_first_forward_used_last():
    model = make()
    own = MultiTaskMethod("gradnorm", model)
    assert own.compute.gradient_layer is None
    outputs = model(inputs(), NAMES)
    own.backward({name: outputs[name].square().mean() for name in NAMES})
    assert own.compute.gradient_layer == "trunk.last"
    assert not any(module._forward_pre_hooks for module in model.modules())
    other = MultiTaskMethod("gradnorm", make())
    other.load_state_dict(own.state_dict())
    assert other.compute.gradient_layer == "trunk.last"
