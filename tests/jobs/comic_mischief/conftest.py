"""Synthetic clips, packed as a user packs features, and an annotations file: the real one where it is at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from jobs.comic_mischief.annotations import read_annotations
from jobs.comic_mischief.synthetic import make_annotations, make_features
from mtlcluster.data.pack_features import pack

ROOT = Path(__file__).parents[3]
REAL = Path(os.environ.get("COMIC_MISCHIEF", ROOT.parent / "shared/data/comic_mischief_annotations.json"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder with annotations.json, 40 clips' features/ and features.h5."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "features").mkdir()
    (folder / "annotations.json").write_text(json.dumps(make_annotations(40, seed=3)))
    for clip, record in read_annotations(folder / "annotations.json").items():
        for kind, values in make_features(clip, record, seed=3).items():
            np.save(folder / "features" / f"{clip}_{kind}.npy", values)
    pack(folder / "features", folder / "features.h5", False, print)
    return folder


@pytest.fixture(scope="session")
def annotations(tmp_path_factory):
    """A file of the published size: the real one where it is at hand, else a synthetic one."""
    if REAL.exists():
        return REAL
    path = tmp_path_factory.mktemp("annotations") / "annotations.json"
    path.write_text(json.dumps(make_annotations(282, seed=0)))
    return path
