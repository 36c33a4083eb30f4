"""report.yaml beside the grid file."""

import json

import pytest
from rig.contests import Contestants, verdict_of

from mtlcluster.collect import figures
from mtlcluster.collect.make_report import make_report
from mtlcluster.errors import UserError


@pytest.fixture
def sweep(tmp_path):
    made = Contestants.at(tmp_path / "runs")
    (tmp_path / "grid.yaml").write_text("")
    made.sweep.grid.write_text(f"name: runs\nsource:\n  grid: {tmp_path}/grid.yaml\n")
    made.singles()
    made.plain("equal", [0.80, 0.81, 0.83])
    made.plain("pcgrad", [0.84, 0.86, 0.86])
    return made.sweep


def write(sweep, text):
    (sweep.folder.parent / "report.yaml").write_text(text)


def test_it_names_the_reference_the_leading_metrics_and_delta(sweep):
    write(sweep, "reference: pcgrad\nleading: {ink: [mae, loss]}\ndelta: 2.5\n")
    for run in sweep.runs():
        assert run.history.exists()
    verdict = verdict_of(sweep)
    assert (verdict.reference, verdict.delta) == ("pcgrad", 2.5)
    assert verdict.relative_to == "", "no run has a loss of ink on test data"
    assert not verdict.warnings or "report.yaml" not in verdict.warnings[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("delta: 1\nreferenz: equal\n", 2, "unknown key 'referenz'; did you mean 'reference'?"),
        ("delta: -1\n", 1, "delta should be greater than or equal to 0, found -1"),
        ("leading:\n  links: [mae]\n", 2, "there is no task 'links'"),
        ("leading:\n  ink:\n  - mea\n", 3, "task 'ink' has no metric 'mea'; did you mean 'mae'?"),
        ("reference: pcgard\n", 1, "there is no method 'pcgard' in this sweep; did you mean 'pcgrad'?"),
    ],
)
def test_a_mistake_is_refused_with_its_line(sweep, text, line, words):
    write(sweep, text)
    with pytest.raises(UserError, match=r"report\.yaml") as refused:
        verdict_of(sweep)
    assert f"report.yaml:{line}: {words}" in str(refused.value)


def test_where_the_grid_is_not_here_none_is_used_and_that_is_said(sweep):
    write(sweep, "delta: 3\n")
    (sweep.folder.parent / "grid.yaml").unlink()
    verdict = verdict_of(sweep)
    assert verdict.delta == 1.0
    assert "The grid file of this sweep is not here" in verdict.warnings[0]


def test_a_changed_report_file_makes_a_new_report(sweep, monkeypatch):
    monkeypatch.setattr(figures.Figures, "draw", lambda *_: [])
    make_report(sweep, print)
    assert json.loads((sweep.report / "verdict.json").read_text())["reference"] == "equal"
    lines = []
    make_report(sweep, lines.append)
    assert "nothing new since the last report" in lines
    write(sweep, "reference: pcgrad\n")
    make_report(sweep, print)
    assert json.loads((sweep.report / "verdict.json").read_text())["reference"] == "pcgrad"
    sweep.folder.joinpath("choices").mkdir()
    sweep.folder.joinpath("choices", "equal.json").write_text("{}")
    lines = []
    make_report(sweep, lines.append)
    assert "nothing new since the last report" not in lines
