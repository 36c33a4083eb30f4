"""The kept sweep of configs/digits-fair.yaml: its report is the committed one; its decisions can be made again."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mtlcluster.collect import figures
from mtlcluster.collect.make_report import make_report
from mtlcluster.collect.verdict import verdict_figures
from mtlcluster.sweep.choices import read_choices
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.pruning import is_kept
from mtlcluster.sweep.status import Status, read_status
from mtlcluster.sweep.trials import Search, read_search

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    folder = tmp_path_factory.mktemp("fair")
    with tarfile.open(FOLDER / "digits_fair.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return Sweep(folder / "digits-fair")


@pytest.fixture(scope="module")
def search(sweep) -> Search:
    found = read_search(sweep.trials)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def statuses(sweep) -> dict[str, Status]:
    """By the identity of the run."""
    return {hash_of(run.name): read_status(run.status) or Status() for run in sweep.runs()}


def test_collect_gives_the_committed_verdict(sweep, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {})
    monkeypatch.setattr(verdict_figures, "FIGURES", {})
    make_report(sweep, lambda line: None)
    found, expected = (json.loads((at / "verdict.json").read_text()) for at in (sweep.report, FOLDER))
    assert same(found, expected) == []


def same(found: Any, expected: Any, place: str = "") -> list[str]:
    """The places at which two verdicts differ by more than rounding."""
    if isinstance(expected, dict):
        keys = [] if isinstance(found, dict) and found.keys() == expected.keys() else [place]
        return keys or [wrong for key in expected for wrong in same(found[key], expected[key], f"{place}/{key}")]
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return [place]
        return [wrong for i, one in enumerate(expected) for wrong in same(found[i], one, f"{place}/{i}")]
    if isinstance(expected, float):
        return [] if found == pytest.approx(expected, rel=1e-6, abs=1e-6) else [f"{place}: {found}, not {expected}"]
    return [] if found == expected else [f"{place}: {found!r}, not {expected!r}"]


def test_every_trial_that_stopped_was_behind_by_what_it_saw(search, statuses):
    assert search.prune is not None
    pruned = [status for status in statuses.values() if status.state == "pruned"]
    assert len(pruned) >= 20
    for identity, status in statuses.items():
        for rung in status.rungs:
            assert rung["kept"] is is_kept(rung["value"], rung["seen"].values(), search.prune["keep"], search.direction)
            seen = [statuses[other].rungs for other in rung["seen"]]
            assert all(any(r["at"] == rung["at"] for r in rungs) for rungs in seen), identity
        assert (status.state == "pruned") is any(not rung["kept"] for rung in status.rungs)


def test_every_choice_is_the_best_trial_that_was_not_stopped(sweep, search, statuses):
    for method in search.methods.values():
        [choice] = read_choices(sweep.folder, method.name)
        done = {
            trial.trial: statuses[run].best["number"]
            for trial in method.trials
            for run in trial.runs.values()
            if statuses[run].state == "done"
        }
        assert choice.trial == min(done, key=lambda number: (done[number], number))
        assert [*choice.runs] == search.confirming_seeds
        assert all(statuses[hash_of(run)].state == "done" for run in choice.runs.values())
