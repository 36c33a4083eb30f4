"""What was read of the histories is kept: the next `collect` reads only the new ones, and finds the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.collect import kept_histories, read_histories
from mtlcluster.collect.kept_histories import read_kept, read_new
from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.run_list import list_runs
from mtlcluster.sweep.history import write_history

KEY = "code 256"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Two finished runs, a single-task one and a pruned one, which were all read once."""
    monkeypatch.setattr(kept_histories, "MANY_ENOUGH", 1)
    sweep = make_sweep(tmp_path / "s")
    for seed in range(2):
        add_run(sweep, f"a-{seed}", history(method(gradient="pcgrad"), seed))
    add_run(sweep, "single", history(method(schedule={"name": "single", "task": "ink"}), 0))
    add_run(sweep, "pruned", history(method(), 0), state="pruned", error="stopped\nat \x1b[1m3")
    read(sweep)
    return sweep


def read(sweep):
    finished, omitted = read_new(list_runs(sweep), sweep.folder / "kept", "code", lambda: None)
    return [as_text(run) for run in finished], omitted


def as_text(run: FinishedRun) -> tuple[str, dict]:
    curves = {k: (c.axis, c.x.tolist(), np.nan_to_num(c.y, nan=-9).tolist()) for k, c in run.curves.items()}
    return repr(replace(run, curves={})), curves


@pytest.fixture
def opened(monkeypatch):
    found = []
    real = read_histories.read_history
    monkeypatch.setattr(read_histories, "read_history", lambda path: found.append(path.parent.name) or real(path))
    return found


def test_what_was_kept_is_what_the_histories_say(sweep, opened):
    kept = read(sweep)
    assert opened == []
    finished, omitted = read_histories.read_histories(list_runs(sweep), lambda: None)
    assert kept == ([as_text(run) for run in finished], omitted)


def test_only_histories_that_changed_are_read(sweep, opened):
    add_run(sweep, "b", history(method(), 7))
    write_history(sweep.run("a-1").history, history(method(gradient="pcgrad"), 3, epochs=21))
    finished, _ = read(sweep)
    assert sorted(opened) == ["a-1", "b"]
    assert "seed=3" in finished[1][0]


def test_other_code_reads_all_again(sweep, opened):
    read_new(list_runs(sweep), sweep.folder / "kept", "newer", lambda: None)
    assert len(opened) == 4


def change(entry, **parts):
    entry["runs"][0]["finished"] |= parts


@pytest.mark.parametrize(
    "wrong",
    [
        lambda e: change(e, seed="0"),
        lambda e: change(e, method="a\x1b[31m"),
        lambda e: change(e, method="a\u202eb"),
        lambda e: change(e, best={"value": "v", "direction": "min", "number": "x", "epoch": 1}),
        lambda e: change(e, config={}),
        lambda e: change(e, tasks=[{"name": "t", "kind": "k", "metrics": {"m": "up"}}]),
        lambda e: change(e, more=1) or e["runs"][0]["finished"].pop("seed"),
        lambda e: e["runs"][0]["curves"].update(extra=["step", 0, 0, 10**9]),
        lambda e: e["runs"][0]["curves"].update(extra=["step", -5, 0, 3]),
        lambda e: e.pop("runs"),
    ],
)
def test_what_no_history_could_give_is_left_aside(sweep, opened, wrong):
    file = sweep.folder / "kept" / "runs.json"
    entry = json.loads(file.read_text())
    wrong(entry)
    file.write_text(json.dumps(entry, ensure_ascii=False))
    assert read_kept(sweep.folder / "kept", KEY) == {}
    finished, omitted = read(sweep)
    assert (len(finished), len(omitted), len(opened)) == (3, 1, 4)


def test_damaged_files_are_left_aside(sweep, tmp_path):
    kept = sweep.folder / "kept"
    assert len(read_kept(kept, KEY)) == 4
    for file in (kept / "points.npy", kept / "runs.json"):
        whole = file.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"\x00" * 200):
            file.write_bytes(content)
            assert read_kept(kept, KEY) == {}
        file.write_bytes(whole)
    np.save(kept / "points.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert read_kept(kept, KEY) == {}
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    assert read_kept(kept, KEY) == {}
