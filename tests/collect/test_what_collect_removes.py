"""C1: collect removes and writes only what belongs to its report, inside the sweep's folder."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster.collect.make_report import make_report
from mtlcluster.collect.report_folder import RECORD
from mtlcluster.errors import UserError
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.predictions import Predictions, TaskPredictions, write_predictions


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws no figures: they make no difference here."""
    monkeypatch.setattr("mtlcluster.collect.figures.FIGURES", {})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder, with files of many kinds."""
    home = tmp_path / "home"
    for name in ("thesis.pdf", "figures/results.pdf", "tables/results.csv", "index.html", ".bashrc", ".made.json"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("mine")
    return home


@pytest.fixture
def sweep(home: Path) -> Sweep:
    sweep = make_sweep(home / "runs" / "sent")
    add_run(sweep, "one-11111111", history(method(), 0))
    return sweep


def owned(home: Path) -> dict[str, str]:
    return {str(p): p.read_text() for p in home.rglob("*") if p.is_file() and "runs" not in p.relative_to(home).parts}


def made_of(sweep: Sweep, files: list[object]) -> None:
    sweep.report.mkdir(exist_ok=True)
    (sweep.report / RECORD).write_text(json.dumps({"code": "", "seen": [], "lines": [], "files": files}))


def test_what_a_report_says_of_its_files_removes_nothing_that_is_not_of_a_report(home: Path, sweep: Sweep) -> None:
    make_report(sweep, print)
    inside = ["notes.txt", "figures/mine.txt", "tables/deep/er.csv", "figures/.hidden.png", "config.yaml"]
    for name in inside:
        (sweep.report / name).parent.mkdir(exist_ok=True)
        (sweep.report / name).write_text("mine")
    (sweep.report / "figures/linked.png").symlink_to(home / "thesis.pdf")
    (sweep.report / "figures/stale.png").write_text("of the report before")
    absolute = [str(path) for path in home.rglob("*") if path.is_file()]
    upwards = [f"{way}../../../{name}" for way in ("", "figures/../", "./") for name in ("thesis.pdf", "index.html")]
    upwards += ["./../sweep.yaml", "figures/../../one-11111111/history.pkl"]
    odd = ["", ".", "..", "figures", "figures/", "/", "~/thesis.pdf", "\0", "figures/linked.png", 3, None, ["x"], {}]
    before = owned(home)
    for files in (absolute, upwards, ["figures/stale.png", *inside, *odd[:-4]], odd):
        made_of(sweep, [*files])
        make_report(sweep, print)
    assert owned(home) == before
    assert all((sweep.report / name).read_text() == "mine" for name in inside)
    assert sweep.grid.exists()
    assert sweep.run("one-11111111").history.exists()
    assert not (sweep.report / "figures/stale.png").exists()  # it belonged to the last report only


@pytest.mark.parametrize("name", ["report", "report/figures", "report/tables", ".report.lock"])
def test_a_link_in_place_of_a_part_of_the_report_is_not_followed(home: Path, sweep: Sweep, name: str) -> None:
    place = sweep.folder / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(home / "thesis.pdf" if name == ".report.lock" else home)
    made = sweep.report / RECORD
    if name != "report":
        made_of(sweep, ["index.html", "figures/results.pdf", "tables/results.csv", "figures/old.png"])
    before = owned(home)
    with pytest.raises(UserError, match=r"is a symbolic link, which is not followed; no report was made") as error:
        make_report(sweep, print)
    assert str(place) in str(error.value)
    assert owned(home) == before
    assert place.is_symlink()
    place.unlink()
    assert make_report(sweep, print).is_file()  # without the link, a report is made
    assert made.is_file()


def test_no_cache_is_written_through_a_link_in_place_of_the_report(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlcluster.collect.kept_histories.MANY_ENOUGH", 1)
    tasks = [{"name": "t", "kind": "classification", "metrics": {"accuracy": "max"}}]
    right = np.array([True, True, True, False])
    kept = TaskPredictions("t", "classification", None, np.zeros(4), np.eye(2)[1 - right])
    sent = make_sweep(tmp_path / "sent")
    for number, (name, full) in enumerate({"equal": method(), "pcgrad": method(gradient="pcgrad")}.items()):
        for seed in range(2):
            made = history(full, seed, label=name, tasks=tasks)
            made["series"]["test/t/accuracy"] = {"epoch": np.array([20]), "value": np.array([0.75])}
            add_run(sent, run := f"{name}-{number}{seed}aaaaaaaa", made)
            write_predictions(sent.run(run).predictions, Predictions(list("abcd"), None, [kept]))
    sent.report.symlink_to(home)
    before = {*home.rglob("*")}
    with pytest.raises(UserError, match=r"report: is a symbolic link, which is not followed; no report was made"):
        make_report(sent, print)
    assert {*home.rglob("*")} == before
    sent.report.unlink()
    make_report(sent, print)
    assert {path.name for path in sent.report.iterdir() if path.name.startswith(".")} >= {".bootstrap", ".histories"}


def test_a_folder_in_place_of_a_file_of_the_report_is_named(home: Path, sweep: Sweep) -> None:
    (sweep.report / "tables/runs.csv").mkdir(parents=True)
    with pytest.raises(UserError, match=f"^{sweep.report}/tables/runs.csv: Is a directory; no report was made$"):
        make_report(sweep, print)


def test_other_links_and_strange_files_are_replaced_not_written_through(home: Path, sweep: Sweep) -> None:
    for name in ("index.html", RECORD, f".{RECORD}.{os.getpid()}.new", "tables/results.csv", "tables/runs.csv"):
        path = sweep.report / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(home / "thesis.pdf")
    (sweep.folder / ".report.new").symlink_to(home)
    before = owned(home)
    make_report(sweep, print)
    assert owned(home) == before
    assert not [path for path in (sweep.folder / "report").rglob("*") if path.is_symlink()]
    (sweep.report / RECORD).unlink()
    os.mkfifo(sweep.report / RECORD)  # a plain read of it would never end
    assert make_report(sweep, print).is_file()
    (sweep.report / RECORD).write_text("[" * 100_000)
    assert make_report(sweep, print).is_file()
    with open(sweep.report / RECORD, "w") as file:
        file.truncate(2**40)
    assert make_report(sweep, print).is_file()


def test_runs_of_other_folders_are_no_part_of_a_report(home: Path, sweep: Sweep) -> None:
    other = make_sweep(home / "runs" / "private")
    add_run(other, "one-11111111", history(method(), 0, label="secret"))
    made_of(sweep, [])
    run = sweep.run("one-11111111")
    sizes = [[path.stat().st_size, path.stat().st_mtime_ns] for path in (run.status, run.history)]
    entry = {"code": "", "lines": [], "files": [], "seen": [["../private/one-11111111", "done", "", *sizes]]}
    (sweep.report / RECORD).write_text(json.dumps(entry))
    page = make_report(sweep, print)
    assert "secret" not in page.read_text()
