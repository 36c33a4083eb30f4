"""Broken clips: texts whose padding and mask do not fit each other, and corrupt features."""

import re
import shutil

import h5py
import numpy as np
import pytest
import torch
from rig.comic_mischief import JOB, ROOT, config

from mtlcluster.training.batch_check import BatchError
from mtlcluster.training.batches import epoch_batches
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.nonfinite.guard import NonFinite
from mtlcluster.training.train import load_build, prepare


def trainer(folder, run, spoil=None):
    """A trainer; `spoil` changes the inputs of every batch. The first batch that is checked is one of validation."""

    def build():
        problem = load_build(JOB, ROOT, run)()
        collate = problem.collate

        def spoiled(items):
            inputs, targets = collate(items)
            spoil(inputs)
            return inputs, targets

        problem.collate = spoiled if spoil else collate
        return problem

    return prepare(build, run, folder, Callbacks())


def test_a_text_padded_in_front_with_its_mask_at_the_end_is_named(clips, tmp_path):
    def pad_in_front(inputs):
        text = inputs["text"]
        for row, length in enumerate(text.lengths.tolist()):
            text.values[row] = text.values[row].roll(text.values.shape[1] - length)

    run = trainer(tmp_path, config(clips), pad_in_front)
    with pytest.raises(BatchError, match=r"text: padding \(0\) where the mask is one, at position 0 of (\S+)") as error:
        run.run()
    assert any(clip in str(error.value) for clip in run.problem.validation.ids)


def test_a_clip_whose_mask_admits_nothing_is_named(clips, tmp_path):
    def no_audio(inputs):
        inputs["audio"].mask[3] = False

    run = trainer(tmp_path, config(clips), no_audio)
    with pytest.raises(BatchError, match="audio: nothing is valid: its mask is all zero") as error:
        run.run()
    third = run.feed.evaluation_indices(run.problem.validation)[0][3]
    assert str(error.value).startswith(run.problem.validation.ids[third])


def test_a_corrupt_feature_file_is_named_by_clip_and_position(clips, tmp_path):
    """The features are corrupted after packing, and read so late in the epoch that only the result shows it."""
    features = shutil.copy(clips / "features.h5", tmp_path / "features.h5")
    run = config(clips, {"features": str(features)}, batch_size=4)
    data = load_build(JOB, ROOT, run)().train
    clip = data.ids[int(epoch_batches(len(data), 4, 0, 0)[4][0])]
    with h5py.File(features, "r+") as file:
        start = file["kinds/vggish/offsets"][list(file["ids"].asstr()).index(clip)]
        file["kinds/vggish/values"][start + 2, 5] = np.nan
    words = f"the batch is broken: {clip}: audio: a value that is not finite, at position 2, 5"
    with pytest.raises(NonFinite, match=re.escape(words)):
        trainer(tmp_path / "run", run).run()


def test_an_overflow_of_fp16_is_named(clips, tmp_path):
    run = trainer(tmp_path, config(clips, precision="fp16"))
    with torch.no_grad():
        run.model.trunk.encoders["video"].projection[1].weight.mul_(1e5)
    with pytest.raises(NonFinite, match=r"trunk.*fp16 holds no more than 65,504: try precision bf16 or fp32"):
        run.run()
