"""The test data's own error: a paired bootstrap over samples or clusters."""

from pathlib import Path

import numpy as np
import pytest

from mtlcluster.collect import bootstrap
from mtlcluster.collect.bootstrap import DRAWS, LeftOut, difference_sd, draw_weights, run_draws
from mtlcluster.sweep.predictions import Predictions, TaskPredictions, write_predictions

N = 400
NUMBERS = np.random.default_rng(3)
HIT = NUMBERS.random(N) < 0.8


def write(path: Path, hits: np.ndarray, clusters: list[str] | None = None, samples: int = N) -> Path:
    """Predictions of one classification into two classes, right where `hits` says so."""
    targets = np.arange(samples) % 2
    decided = np.where(hits, targets, 1 - targets)
    outputs = np.eye(2)[decided]
    task = TaskPredictions("t", "classification", None, targets.astype(float), outputs)
    write_predictions(path, Predictions([f"s{i}" for i in range(samples)], clusters, [task]))
    return path


def accuracy(path: Path, hits: np.ndarray, cache: Path) -> tuple[str, np.ndarray]:
    samples, found = run_draws(path, {"x": ("t", "accuracy", float(hits.mean()))}, cache)
    return samples, found["x"]


def test_it_is_the_standard_error_of_a_mean(tmp_path):
    _, draws = accuracy(write(tmp_path / "p.npz", HIT), HIT, tmp_path / "cache")
    assert draws.shape == (DRAWS,)
    assert draws.mean() == pytest.approx(HIT.mean(), abs=0.003)
    assert draws.std() == pytest.approx(np.sqrt(HIT.mean() * (1 - HIT.mean()) / N), rel=0.1)


def test_what_two_methods_have_in_common_cancels_out(tmp_path):
    """Paired: two methods that differ in 8 samples of 400 are told apart much better than each is known."""
    other = HIT.copy()
    other[:8] = ~other[:8]
    _, first = accuracy(write(tmp_path / "a.npz", HIT), HIT, tmp_path / "cache")
    _, second = accuracy(write(tmp_path / "b.npz", other), other, tmp_path / "cache")
    change = other.astype(float) - HIT
    assert difference_sd([second], [first]) == pytest.approx(change.std() / np.sqrt(N), rel=0.1)
    assert difference_sd([first, second], [first, second]) == 0


def test_clusters_are_drawn_whole(tmp_path):
    """Ten samples of a video that are all right or all wrong are one sample, not ten."""
    hits = np.repeat(NUMBERS.random(N // 10) < 0.8, 10)
    clusters = [f"video {i // 10}" for i in range(N)]
    _, draws = accuracy(write(tmp_path / "p.npz", hits, clusters), hits, tmp_path / "cache")
    assert draws.std() == pytest.approx(np.sqrt(hits.mean() * (1 - hits.mean()) / (N // 10)), rel=0.15)


def test_a_draw_does_not_depend_on_how_many_are_made_together():
    assert np.array_equal(draw_weights(30, None, 0, 10)[4:7], draw_weights(30, None, 4, 7))


def test_a_second_call_reads_the_cache_and_new_predictions_do_not(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "p.npz", HIT), tmp_path / "cache"
    samples, before = accuracy(path, HIT, cache)
    with monkeypatch.context() as patched:
        patched.setattr(bootstrap, "read_predictions", None)
        again, cached = accuracy(path, HIT, cache)
    assert again == samples
    assert cached == pytest.approx(before, abs=1e-6)
    _, other = accuracy(write(path, ~HIT), ~HIT, cache)
    assert other.mean() < 0.5 < before.mean()
    for file in cache.iterdir():
        file.write_bytes(b"PK damaged")
    assert accuracy(path, ~HIT, cache)[1] == pytest.approx(other, abs=1e-6)


def test_other_samples_have_another_identity(tmp_path):
    first, _ = accuracy(write(tmp_path / "a.npz", HIT), HIT, tmp_path / "cache")
    second, _ = accuracy(write(tmp_path / "b.npz", HIT[:100], samples=100), HIT[:100], tmp_path / "cache")
    assert first != second


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (("t", "accuracy", 0.1), "is another metric than the built-in one"),
        (("t", "auc", 0.5), "don't tell 'auc' of task 't'"),
        (("u", "accuracy", 0.5), "no predictions of task 'u'"),
    ],
)
def test_what_the_predictions_do_not_tell_is_left_out_with_the_reason(tmp_path, wanted, words):
    with pytest.raises(LeftOut, match=words):
        run_draws(write(tmp_path / "p.npz", HIT), {"x": wanted}, tmp_path / "cache")
    with pytest.raises(LeftOut, match="were not kept"):
        run_draws(tmp_path / "none.npz", {"x": wanted}, tmp_path / "cache")
