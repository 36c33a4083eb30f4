"""The authors' checkpoints: the model computes what theirs does, and a file that does not fit is refused or told of."""

import os
import pickle

import pytest
import torch
from rig.published import BERT, UNITS, Published

from jobs.comic_mischief.hiccap import Hiccap
from jobs.comic_mischief.pretrained import load_pretrained
from mtlcluster import pad


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A text encoder of the published model's size here, without weights."""
    folder = tmp_path_factory.mktemp("bert")
    BERT.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return Published().eval()


def save(state, folder):
    torch.save({"epoch": 3, "model_state": state, "optimizer_state": {}}, folder / "authors.pth")
    return folder / "authors.pth"


def clips(lengths=(7, 5, 9), count=3):
    generator = torch.Generator().manual_seed(1)
    text, video, audio = lengths
    return {
        "text": torch.randint(1, BERT.vocab_size, (count, text), generator=generator),
        "video": torch.randn(count, video, 1024, generator=generator),
        "audio": torch.randn(count, audio, 128, generator=generator),
    }


def padded(clips):
    return {name: pad(list(values)) for name, values in clips.items()}


@pytest.mark.parametrize("order", ["text_first", "audio_first"])
def test_a_loaded_checkpoint_computes_what_the_published_model_does(order, published, bert, tmp_path, capsys):
    published.video_order = order
    model = Hiccap(["mature", "gory"], bert, video_order=order, units=UNITS).eval()
    load_pretrained(model, save(published.state_dict(), tmp_path))
    with torch.no_grad():
        expected = published.trunk(**clips())
        found, logits = model.trunk(padded(clips())), model(padded(clips()), ["gory"])
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert torch.allclose(logits["gory"], published.img_audio_text_linear_gory(expected), atol=1e-4)
    told = capsys.readouterr().out
    assert f"{len(model.state_dict())} of the model's {len(model.state_dict())} tensors" in told
    assert "missing (as they were initialized): 0\n" in told
    assert "left over: 2: features.0.pooler.dense.weight, features.0.pooler.dense.bias\n" in told


def test_what_is_missing_and_left_over_is_told(published, bert, tmp_path, capsys):
    state = published.state_dict()
    state["module.img_audio_text_linear.7.bias"] = torch.tensor([3.0, 4.0])  # of the binary model, on many GPUs
    state["features.0.embeddings.position_ids"] = torch.arange(512)[None]
    state = {key: tensor for key, tensor in state.items() if not key.startswith("features.16.")}
    model = Hiccap(["mischief", "gory"], bert, units=UNITS)
    pooling = model.trunk.poolings["text"].v.clone()
    load_pretrained(model, save(state, tmp_path))
    told = capsys.readouterr().out
    assert "left over: 21: features.0 (3), img_audio_text_linear_mature (18)\n" in told
    assert "missing (as they were initialized): 20: trunk.poolings.text (3), heads.mischief (17)\n" in told
    assert model.heads["mischief"][7].bias.tolist() == [3, 4]
    assert torch.equal(model.trunk.poolings["text"].v, pooling)


def test_fewer_modalities_take_what_is_theirs(published, bert, tmp_path, capsys):
    model = Hiccap(["gory"], bert, modalities=["text", "audio"], units=UNITS)
    load_pretrained(model, save(published.state_dict(), tmp_path))
    assert torch.equal(model.trunk.blocks["text"].norms["audio"][1].weight, published.features[9][1].weight)
    assert torch.equal(model.trunk.blocks["audio"].norms["text"][1].weight, published.features[12][1].weight)
    assert "missing (as they were initialized): 1: heads.gory.0.weight\n" in capsys.readouterr().out  # too wide


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model_state": {"layer.weight": torch.zeros(2)}}, r"none of its 1 tensors is the trunk's.*found layer"),
        ({"model_state": {"features.16.v": torch.zeros(768)}}, r"trunk\.poolings\.text\.v \[768\] instead of \[48\]"),
        ({"weights": {}, "epoch": 1}, "'model_state' is expected.*found weights, epoch"),
        ({"model_state": {3: torch.zeros(2)}}, "'model_state' is expected"),
        ({"model_state": {"features.16.v": torch.full([48], torch.nan)}}, r"not .* finite: features\.16\.v"),
        ({"model_state": {"features.16.v": Malicious()}}, "is refused"),
        (None, "there is no file"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused(content, expected, bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        torch.save(content, "file.pth")
    model = Hiccap(["gory"], bert, units=UNITS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=expected):
        load_pretrained(model, "file.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps(Malicious(), protocol=2)])
def test_damaged_files_are_refused(content, bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match="is no checkpoint of tensors alone"):
        load_pretrained(Hiccap(["gory"], bert, modalities=["text"], units=UNITS), "file.pth")
    assert not (tmp_path / "executed").exists()
