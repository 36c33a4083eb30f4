"""How often a report names a winner among equal methods: sweeps as histories on disk, read through `collect`."""

import json

import numpy as np
import pytest
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect import figures
from mtlcluster.collect.inference.compare import compare
from mtlcluster.collect.make_report import make_report
from mtlcluster.sweep.trials import SearchedMethod, Trial

METHODS = ["equal", "pcgrad", "cagrad", "upgrad", "imtl_g", "mgda", "nash_mtl", "aligned_mtl", "graddrop", "gradvac"]
SPREAD = 3.0  # points of z: large against δ, so that no difference counts as too small to matter


def noise(sweep: int, methods: int, seeds: int) -> np.ndarray:
    """z of equal methods, in points [M, S]. 60 % of the variance is common to all methods with the same seed."""
    rng = np.random.default_rng(1000 * methods + 100 * seeds + 10_000 * sweep)
    return SPREAD * (rng.standard_normal((methods, seeds)) + 1.5**0.5 * rng.standard_normal((1, seeds)))


def values(points: float) -> dict[str, float]:
    """Values that are better than those of single-task training by so many per cent."""
    return {"left/accuracy": 0.8 * (1 + points / 100), "ink/mae": 2.0 * (1 - points / 100)}


def read_verdict(folder, z: np.ndarray) -> dict:
    """verdict.json of a sweep with these values."""
    made = Contestants.at(folder)
    made.singles(seeds=range(1))
    for name, row in zip(METHODS, z, strict=False):
        for seed, points in enumerate(row):
            made.run(name, seed, method() if name == "equal" else method(gradient=name), values(float(points)))
    make_report(made.sweep, lambda _: None)
    return json.loads((made.sweep.report / "verdict.json").read_text())


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch):
    monkeypatch.setattr(figures.Figures, "draw", lambda *_: [])


def test_the_report_says_what_the_statistics_say(tmp_path):
    for sweep in range(3):
        z = noise(sweep, 5, 3) + np.array([[0], [0], [15 * sweep], [0], [-15 * sweep]])
        found, expected = read_verdict(tmp_path / f"s{sweep}", z), compare(z, 0, 1.0)
        assert {*found["best_group"]} == {METHODS[m] for m in expected.best_group}
        assert {*found["better"]} == {
            name for name, word in zip(METHODS, expected.words, strict=False) if word == "better"
        }
        assert found["p_range"] == pytest.approx(
            expected.p_range, abs=0.05
        )  # permutations are drawn in the rows' order
        by_name = {row["name"]: row["versus_reference"] for row in found["methods"]}
        for name, difference in zip(METHODS[1:], expected.differences[1:], strict=False):
            assert by_name[name]["difference"] == pytest.approx(difference.mean)
            assert (by_name[name]["low"], by_name[name]["high"]) == pytest.approx((difference.low, difference.high))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("methods", "seeds"), [(5, 3), (10, 3), (10, 5)])
def test_equal_methods_rarely_have_a_winner(tmp_path, methods, seeds):
    named = 0
    for sweep in range(200):
        found = read_verdict(tmp_path / f"s{sweep}", noise(sweep, methods, seeds))
        named += found["strict"] or bool(found["better"])
    assert named <= 16


def search(folder, rng: np.random.Generator, trials: int, confirming: int) -> Contestants:
    """A search in which all settings are equal: `equal` has one trial, `pcgrad` has many. Every run has its own noise.

    The noise of a tuning run is in the number that chooses and in its values.
    """
    made = Contestants.at(folder)
    made.singles(seeds=range(1))
    for name, full, count in (("equal", method(), 1), ("pcgrad", method(gradient="pcgrad"), trials)):
        points = SPREAD * rng.standard_normal(count)
        entry = made.methods[name] = SearchedMethod(name, {}, ["optimizer.lr"])
        for i, one in enumerate(points):
            varied = {"optimizer.lr": round(0.001 * (i + 1), 6)}
            run = made.run(
                f"{name}-trial={i:02d}", 0, full, values(float(one)), number=1 - float(one) / 100, varied=varied
            )
            entry.trials.append(Trial(i, varied, {0: run}))
        fresh = {seed: values(float(SPREAD * rng.standard_normal())) for seed in range(1, confirming + 1)}
        made.confirmed(name, full, int(points.argmax()), fresh)
    made.search(list(range(1, confirming + 1)))
    return made


def better_with_more_trials(folder, sweeps: int) -> int:
    found = [
        verdict_of(search(folder / f"s{i}", np.random.default_rng(i), trials=16, confirming=5).sweep)
        for i in range(sweeps)
    ]
    assert all(one.reference == "equal" and one.seeds == [1, 2, 3, 4, 5] for one in found)
    return sum(one.better == ["pcgrad"] for one in found)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_sixteen_equal_trials_are_no_better_than_one(tmp_path):
    assert better_with_more_trials(tmp_path, 200) <= 16
