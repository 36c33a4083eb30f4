"""A run that was stopped and started again ends as if it had been left alone, bit for bit."""

import pytest
import torch
from rig.tiny_runs import METHODS, StopEvery, assert_same, final_weights, tiny, tiny_with_stops

from mtlcluster.sweep.checksums import write_checksum
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.resume import checkpoint
from mtlcluster.training.resume.checkpoint import Checkpoints


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_stopped_anywhere_ends_the_same(method, tmp_path):
    settings = {"method": method, "accumulate": 2, "best": {"value": "mean_loss"}, "epochs": 6}
    whole = tiny(tmp_path / "whole", **settings)
    stopped, stops = tiny_with_stops(tmp_path / "stopped", 5, **settings)
    assert stops > 5
    assert_same(whole["series"], stopped["series"])
    expected, found = final_weights(tmp_path / "whole"), final_weights(tmp_path / "stopped")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert whole["info"]["best"] == stopped["info"]["best"]


@pytest.mark.parametrize(
    "settings",
    [
        {"data": {"noisy": True}},
        {"data": {"noisy": True, "workers": 2}, "epochs": 2},
        {
            "optimizer": {"name": "sgd", "lr": 0.01},
            "scheduler": {"name": "plateau", "patience": 1},
            "best": {"value": "b/accuracy", "direction": "max"},
            "epochs": 8,
        },
        {"epochs": None, "steps": 17, "precision": "bf16", "early_stopping": {"patience": 1}},
        {"epochs": 50, "early_stopping": {"patience": 2}},
        {"precision": "fp16"},
    ],
    ids=["augmented", "worker processes", "plateau", "steps, bf16", "early stopping", "fp16"],
)
def test_resume_is_exact_with(settings, tmp_path):
    whole = tiny(tmp_path / "whole", **settings)
    stopped, stops = tiny_with_stops(tmp_path / "stopped", 5, **settings)
    assert stops > 2
    assert_same(whole["series"], stopped["series"])


def _run_and_stop_twice(folder):
    """Leaves two checkpoints to go on from."""
    for _ in range(2):
        with pytest.raises(StopRequested):
            tiny(folder, StopEvery(17))
    return sorted((folder / "checkpoints").glob("step-*.pt"))


@pytest.mark.parametrize("damage", ["torn", "flipped bit", "no checksum", "torn best"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(damage, tmp_path):
    whole = tiny(tmp_path / "whole")
    newest = _run_and_stop_twice(tmp_path / "damaged")[-1]
    if damage == "torn best":
        newest = sorted((tmp_path / "damaged/checkpoints").glob("best-*.pt"))[-1]
    content = newest.read_bytes()
    if damage.startswith("torn"):
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped bit":
        newest.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    else:
        newest.with_name(newest.name + ".sha256").unlink()
    said = []

    class Listener(Callbacks):
        def report(self, event, **values):
            said.extend(values["notes"])

    history = tiny(tmp_path / "damaged", Listener())
    assert any("passed over" in note and newest.name in note for note in said)
    assert_same(whole["series"], history["series"])


def test_a_best_checkpoint_that_nobody_names_does_not_displace_the_one_that_is_named(tmp_path):
    """The process was killed after it had saved a best checkpoint, and now finds another best one."""
    kept = Checkpoints(tmp_path)
    for step in (10, 20, 30):
        if step == 10:
            kept.save_best(10, {})
        kept.save(step, {"best": {"step": 10}})
        kept.save_best(step + 5, {})
    (tmp_path / ".step-000000031.pt.1.new").write_bytes(b"torn")
    again = Checkpoints(tmp_path)
    state, notes = again.newest()
    assert (state["best"]["step"], notes) == (10, [])
    again.save(40, {"best": {"step": 10}})
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "best-000000010.pt", "step-000000030.pt", "step-000000040.pt",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*"))


def test_only_the_newest_checkpoints_and_their_best_are_kept(tmp_path):
    tiny_with_stops(tmp_path, 5, epochs=6)
    names = [path.name.split("-")[0] for path in (tmp_path / "checkpoints").glob("*.pt")]
    assert names.count("step") == 2
    assert 1 <= names.count("best") <= 3
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_checkpoint_never_executes_code(tmp_path):
    """Code is refused when a checkpoint is written; in a file that somebody made it is refused when that is read."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "step-000000001.pt"
    with pytest.raises(checkpoint.Unreadable, match="'evil' cannot be kept in a checkpoint: a value of type Evil"):
        checkpoint.save(path, {"best": None, "evil": Evil()})
    assert not list(tmp_path.iterdir())
    torch.save({"best": None, "evil": Evil()}, path)
    write_checksum(path)
    with pytest.raises(checkpoint.Unreadable, match="whole, but cannot be read"):
        Checkpoints(tmp_path).newest()
    assert path.exists()
    assert not (tmp_path / "executed").exists()
