"""The model: padding reaches no result, whatever takes part is trained, what is frozen stays, and options are checked.

That it computes what the published model does is in test_pretrained.py.
"""

import copy

import pytest
import torch
import torch.nn.functional as F

from jobs.comic_mischief.hiccap import Hiccap
from mtlcluster import pad

LENGTHS = {"text": (4, 9, 2), "video": (8, 3, 5), "audio": (1, 15, 7)}  # each is the longest of one modality
ALL = ["text", "video", "audio"]


@pytest.fixture(scope="module")
def clips():
    """Three clips, each a dict of sequences."""
    generator = torch.Generator().manual_seed(0)

    def sequence(name, length):
        if name == "text":
            return torch.randint(1000, 30000, (length,), generator=generator)
        return torch.randn(length, {"video": 1024, "audio": 128}[name], generator=generator)

    return [{name: sequence(name, LENGTHS[name][i]) for name in ALL} for i in range(3)]


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    return Hiccap(["mature", "gory"], units=32)


@pytest.fixture
def model(built):
    return copy.deepcopy(built).train()


def batch(clips, modalities=ALL):
    return {name: pad([clip[name] for clip in clips]) for name in modalities}


def loss(outputs):
    targets = torch.arange(len(next(iter(outputs.values())))) % 2
    return torch.stack([F.cross_entropy(logits, targets) for logits in outputs.values()]).sum()


def test_padding_never_changes_a_result(model, clips):
    model = model.double().eval()
    inputs = {name: padded._replace(values=padded.values.double()) for name, padded in batch(clips, ALL[1:]).items()}
    inputs["text"] = batch(clips)["text"]
    for padded in inputs.values():
        padded.values[~padded.mask] = 7  # whatever stands there
    together = model(inputs, ["mature"])["mature"]
    for i, lengths in enumerate(zip(*LENGTHS.values(), strict=True)):
        alone = {name: pad([inputs[name].values[i, :length]]) for name, length in zip(ALL, lengths, strict=True)}
        assert torch.allclose(model(alone, ["mature"])["mature"], together[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("modalities", [["text"], ["audio"], ["text", "video"], ALL])
def test_any_modalities_train_in_all_their_parameters(modalities, clips):
    model = Hiccap(["mature", "gory"], modalities=modalities, units=32)
    inputs = batch(clips, modalities)
    loss(model(inputs, ["mature", "gory"])).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # but for offsets of all scores of a softmax, and those that a BatchNorm takes away again
    assert [name for name in untouched if not name.endswith(("key.bias", "0.bias", "3.bias"))] == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    named = model.last_shared_weight()
    model.last_shared_layer = None
    assert model.last_shared_weight() is named, "the one that GradNorm has always taken"
    for task in ("mature", "gory"):
        (gradient,) = torch.autograd.grad(loss(model(inputs, [task])), [model.last_shared_weight()])
        assert gradient.any()


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [1, 3])
def test_it_trains_in_half_precision_on_any_cpu(precision, count, model, clips):
    with torch.autocast("cpu", precision):
        value = loss(model(batch([clips[0]] * count), ["mature"]))  # of one length, which oneDNN's LSTMs take
    value.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_only_the_heads_asked_for_are_computed(model, clips):
    model.heads["gory"] = None
    assert list(model(batch(clips), ["mature"])) == ["mature"]


@pytest.mark.parametrize("freeze", [["text"], ["audio"], ["trunk"]])
def test_what_is_frozen_stays_and_has_no_dropout_while_the_rest_learns(freeze, clips):
    torch.manual_seed(0)
    modalities = ["text", "audio"]
    model = Hiccap(["mature"], modalities=modalities, freeze=freeze, units=32).train()
    inputs, before = batch(clips, modalities), copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss(model(inputs, ["mature"])).backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    frozen = ("trunk.",) if freeze == ["trunk"] else (f"trunk.encoders.{freeze[0]}.",)
    assert changed
    assert not any(name.startswith(frozen) for name in changed)
    for part, encoder in model.trunk.encoders.items():
        assert torch.equal(encoder(inputs[part]), encoder(inputs[part])) == (freeze in ([part], ["trunk"]))


def test_a_batch_of_one_trains_and_leaves_the_running_statistics(model, clips):
    before = copy.deepcopy(dict(model.named_buffers()))
    loss(model(batch(clips[:1]), ["mature"])).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"modalities": []}, "modalities: none is left"),
        ({"modalities": "text"}, r"modalities: a list is expected, such as \[text\]"),
        ({"modalities": ["text", "vidoe"]}, "modalities: 'vidoe' is none of text, audio, video"),
        ({"video_order": "text"}, "video_order: 'text' is none of text_first, audio_first"),
        ({"modalities": ["text", "video"], "freeze": ["audio"]}, "freeze: 'audio' is none of trunk, text, video"),
    ],
)
def test_options_that_there_are_not_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        Hiccap(["mature"], **options)
