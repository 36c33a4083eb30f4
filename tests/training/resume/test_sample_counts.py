"""A run that goes on with data of another size is refused in one sentence."""

import pytest
import torch
from rig.resumes import SETTINGS, Stop, stopped
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData, train
from mtlcluster.sweep.checksums import write_checksum
from mtlcluster.training.resume.checkpoint import Checkpoints, Unfit


def build(train=64, validation=32, test=None):
    def data(length):
        x = torch.randn(length, 4, generator=torch.Generator().manual_seed(0))
        return TensorData(x, {"a": x.sum(1)})

    def made():
        model = MultiTaskModel(nn.Linear(4, 4), {"a": nn.Linear(4, 1)})
        return Problem(model, [Task.regression("a")], data(train), data(validation), test and data(test))

    return made


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"train": 16}, "the training data had 64 samples when this run was saved, and have 16 now"),
        ({"train": 1200}, "the training data had 64 samples .* and have 1,200 now"),
        ({"train": 63}, "training data"),  # as many steps as before
        ({"validation": 31}, "validation data had 32"),
        ({"test": 8}, "test data had 0"),
    ],
)
def test_it_is_refused_and_the_checkpoint_stays(now, words, tmp_path):
    stopped(build(), tmp_path, 8)
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    with pytest.raises(Unfit, match=f"{words}.*put the former data back, or begin anew: .* --restart"):
        train(build(**now), SETTINGS, tmp_path, Stop(40))
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    assert train(build(), SETTINGS, tmp_path)["info"]["finished"]


def test_a_checkpoint_of_before_goes_on_and_ends(tmp_path):
    stopped(build(), tmp_path, 8)
    path = max((tmp_path / "checkpoints").glob("step-*.pt"))
    state, _ = Checkpoints(tmp_path / "checkpoints").newest()
    torch.save({key: state[key] for key in state.keys() - {"samples", "buffers", "own_generators"}}, path)
    write_checksum(path)
    history = train(build(train=16), SETTINGS, tmp_path, Stop(40))
    assert history["info"]["finished"]
