"""Clips and their batches: they hold what is in the files, and otherwise only padding."""

import shutil

import numpy as np
import pytest
import torch

from jobs.comic_mischief import Data, Model, load
from jobs.comic_mischief.data import Collate, balanced_weights
from jobs.comic_mischief.synthetic import WIDTHS
from mtlcluster import PackedFeatures, Task
from mtlcluster.data.pack_features import pack
from mtlcluster.training.batch_check import check_batch


def options(clips, **more):
    return Data(str(clips / "annotations.json"), str(clips / "features.h5"), **more)


@pytest.fixture(scope="module")
def loaded(clips):
    return load(options(clips, video_length=20), Model(text_encoder="small"))


@pytest.fixture(scope="module")
def parts(loaded):
    return loaded[0]


def file_of(clips, clip, kind):
    path = clips / "features" / f"{clip}_{kind}.npy"
    return np.load(path) if path.exists() else None


def test_a_batch_holds_what_the_files_hold_up_to_the_longest_and_padding_beside_it(clips, loaded):
    (train, *_), collate = loaded[0].values(), loaded[1]
    inputs, targets = collate([train[i] for i in range(len(train))])
    check_batch((inputs, targets), [Task.binary(task) for task in targets], train.ids)
    without_sound = 0
    for row, clip in enumerate(train.ids):
        of_row = {name: padded.values[row][padded.mask[row]].numpy() for name, padded in inputs.items()}
        video = (file_of(clips, clip, "rgb") + file_of(clips, clip, "flow"))[:20]
        audio = file_of(clips, clip, "vggish")
        without_sound += audio is None
        assert np.array_equal(of_row["video"], video)
        assert np.array_equal(of_row["audio"], np.zeros((1, 128)) if audio is None else audio)
        assert np.array_equal(of_row["text"], collate.texts[clip])
    assert without_sound
    assert inputs["video"].values.shape[1] == 20
    assert inputs["text"].values.shape[1] == max(len(collate.texts[clip]) for clip in train.ids)
    assert targets["gory"].tolist() == [labels["gory"] for labels in train.labels]
    assert torch.equal(targets["mischief"] > 0, sum(targets[t] for t in targets if t != "mischief") > 0)


def test_video_may_be_packed_as_the_sum(clips, loaded, tmp_path):
    pack(clips / "features", tmp_path / "sum.h5", False, print, {"video": ("rgb", "flow")})
    parts, collate = load(Data(str(clips / "annotations.json"), str(tmp_path / "sum.h5")), Model("small"))
    inputs, _ = collate(list(parts["train"]))
    of_parts, _ = Collate(None, 0, loaded[1].features, {"video": 36})(list(parts["train"]))
    assert torch.equal(inputs["video"].values, of_parts["video"].values)
    assert torch.equal(inputs["video"].mask, of_parts["video"].mask)


@pytest.fixture
def damaged(clips, tmp_path):
    """A copy of the clips that a test may change. Calling it packs them again."""
    shutil.copytree(clips, tmp_path / "clips", ignore=shutil.ignore_patterns("*.h5"))

    def packed():
        pack(tmp_path / "clips/features", tmp_path / "clips/features.h5", False, print)
        return tmp_path / "clips"

    packed.features = tmp_path / "clips/features"
    return packed


def test_clips_without_video_are_refused_by_name_or_left_out(damaged, parts, capsys):
    lost, *_ = ids = parts["train"].ids
    for path in damaged.features.glob(f"{lost}_*.npy"):
        path.unlink()
    clips = damaged()
    with pytest.raises(ValueError, match=f"1 of 40 annotated clips lack features in .*: {lost}; .*missing_video: drop"):
        load(options(clips), Model("small"))
    left = load(options(clips, missing_video="drop"), Model("small"))[0]
    assert left["train"].ids == ids[1:]
    assert left["validation"].ids == parts["validation"].ids  # the split is as if it were there
    assert f"lack features in {clips}/features.h5: {lost}; left out" in capsys.readouterr().out


def test_rgb_and_flow_of_unequal_length_are_refused_by_name(damaged, parts):
    clip = parts["train"].ids[0]
    path = damaged.features / f"{clip}_flow.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(ValueError, match=f"clip {clip}: rgb and flow should be equally long"):
        load(options(damaged()), Model("small"))


def test_modalities_that_are_left_out_are_not_asked_for(clips):
    parts, collate = load(Data(str(clips / "annotations.json")), Model("small", modalities=["text"]))
    assert list(collate([parts["train"][0]])[0]) == ["text"]
    parts, collate = load(options(clips, similar_length=True), Model("there is none", modalities=["audio"]))
    inputs, _ = collate(list(parts["train"]))
    assert list(inputs) == ["audio"]
    assert inputs["audio"].lengths.tolist() == [max(1, length) for length in parts["train"].lengths]
    with pytest.raises(ValueError, match="features is missing"):
        load(Data(str(clips / "annotations.json")), Model("small", modalities=["video"]))


def test_a_part_may_have_a_file_of_its_own(clips, annotations):
    files = {"validation_annotations": str(clips / "annotations.json")}
    parts, _ = load(Data(str(annotations), **files, test_share=0.0), Model("small", modalities=["text"]))
    assert len(parts["validation"]) == 40
    assert len(parts["train"]) == 282
    assert not len(parts["test"])
    with pytest.raises(ValueError, match="clips in both train and validation"):
        load(options(clips, **files), Model("small"))


def test_balanced_weights_make_both_classes_count_the_same():
    labels = [{"gory": 1}, *[{"gory": 0}] * 4]
    no, yes = balanced_weights(labels, "gory")
    assert 4 * no == pytest.approx(yes)
    assert 4 * no + yes == pytest.approx(5)
    with pytest.raises(ValueError, match="all training clips are no for 'gory'"):
        balanced_weights(labels[1:], "gory")


def test_synthetic_features_lie_as_published(clips):
    features = PackedFeatures(clips / "features.h5")
    assert {kind: features.width(kind) for kind in features.kinds} == WIDTHS
    lengths = np.array([[features.length(kind, clip) for kind in ("rgb", "flow", "vggish")] for clip in features.ids])
    assert (lengths[:, 0] == lengths[:, 1]).all()
    assert 8 <= lengths[:, 0].min() < lengths[:, 0].max() <= 36
    with_sound = lengths[lengths[:, 2] > 0, 2]
    assert 15 <= with_sound.min() < with_sound.max() <= 63
