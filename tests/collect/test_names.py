"""Samples, and tasks of older sweeps, may have any name. It appears as it is in figures, tables and page.

It is never markup, a formula of a spreadsheet, or an option.
"""

import csv
import json
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from mtlcluster import problem
from mtlcluster.collect import figures, style
from mtlcluster.collect.make_report import make_report
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.status import Status, write_status
from mtlcluster.training.commands.evaluate import main as evaluate
from mtlcluster.training.commands.terminal import train_file

NAMES = [
    "情感分類 (任务)", "データ分類", "감정", '=HYPERLINK("x","y")', "+1+cmd|' C calc'!A0", "-2+3", "@SUM(A1)", "\t=1",
    "$x_1$ and \\frac{1}{0} {", "a|b `c` *d* <script>alert(1) &lt;", "  leading", "new\nline", "n\0ul \x1b[31m",
    "שלום עולם", "\u202egnirts", "😀 👩\u200d👧", "x" * 300, "[b] [red] :key:", "a:b", "type", "_under_", "Ünïcödé ∞",
]  # fmt: skip
IDS = ["=1+1", "+2", "-3", "-dQw4w9WgXcQ", "@x", "\t=4", "\r=5", "plain", "-0.5e3", '任务,"q"', "a\nb", "＝6", " =7"]
IDS += ["half \udcff"]
JOB = f"""
import torch
from torch import nn
from mtlcluster import MultiTaskModel, Problem, Task, TensorData

NAMES, IDS = {NAMES!r}, {IDS!r}


def build() -> Problem:
    def part(seed):
        inputs = torch.randn(len(IDS), 3, generator=torch.Generator().manual_seed(seed))
        data = TensorData(inputs, {{name: inputs[:, 0] + i for i, name in enumerate(NAMES)}})
        data.ids = IDS
        return data

    heads = {{name: nn.Linear(3, 1) for name in NAMES}}
    tasks = [Task(name, lambda outputs, targets: ((outputs[:, 0] - targets) ** 2).mean(), "regression")
             for name in NAMES]
    return Problem(MultiTaskModel(nn.Linear(3, 3), heads), tasks, part(1), part(2), part(3))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a job with these names of tasks and samples, and its predictions.

    Older versions let tasks have every name, and their sweeps are still collected.
    """
    project = tmp_path_factory.mktemp("project")
    (project / "jobs").mkdir()
    (project / "jobs" / "odd.py").write_text(JOB, "utf-8")
    (project / "odd.yaml").write_text(json.dumps({"job": "odd", "epochs": 2, "method": "pcgrad"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem, "refuse_bad_name", lambda name: None)
        assert train_file(project / "odd.yaml", project / "run") == 0
        evaluate(project / "run", "test", project / "predictions.csv")
    return project


@pytest.fixture(scope="module")
def report(trained: Path) -> tuple[Path, list[str]]:
    """The report of a sweep of that run, and the lines for the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return collected(trained, "odd", "results", "schedule", "total_loss")


def collected(trained: Path, name: str, *drawn: str) -> tuple[Path, list[str]]:
    """Makes a report with the figures `drawn` only: all figures take long with so many tasks."""
    sweep, lines = Sweep(trained / "runs" / name), []
    sweep.folder.mkdir(parents=True)
    sweep.grid.write_text(f"name: {name}\n")
    for run in map(sweep.run, ("pcgrad-1", "pcgrad-2")):
        run.folder.mkdir()
        shutil.copy(trained / "run" / "history.pkl", run.history)
        write_status(run.status, Status(state="done"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", {key: key for key in drawn})
        make_report(sweep, lines.append)
    return sweep.report, lines


def cells(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def is_harmless(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not re.match(r"\s*[=+@＝＋－＠-]|[\t\r]", cell)
    return True


def test_samples_of_any_name_are_predicted_and_no_formula(trained):
    heads, *rows = cells(trained / "predictions.csv")
    assert len(heads) == 1 + 2 * len(NAMES)
    assert len(rows) == len(IDS), "a row is a sample"
    assert all(is_harmless(cell) for row in [heads, *rows] for cell in row)
    shown = ["'=1+1", "+2", "-3", "'-dQw4w9WgXcQ", "'@x", "' =4", "' =5", "plain", "-0.5e3", '任务,"q"', "a b", "'＝6"]
    assert [row[0] for row in rows] == [*shown, "' =7", "half \\udcff"]
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows])
    assert (numbers < 0).any(), "negative numbers are numbers"
    assert len((trained / "predictions.csv").read_text("utf-8").splitlines()) == 1 + len(IDS)


def test_tables_have_every_task_and_no_formula(report):
    folder, _ = report
    for path in (folder / "tables").glob("*.csv"):
        lines = cells(path)
        assert all(is_harmless(cell) for line in lines for cell in line), path.name
        assert len({len(line) for line in lines}) == 1
    heads = cells(folder / "tables" / "results.csv")[0]
    assert sum(head.endswith("/loss mean") for head in heads) == len(NAMES)


def test_a_table_in_markdown_has_a_line_a_setting_and_no_markup(report):
    text = (report[0] / "tables" / "validation.md").read_text("utf-8")
    for block in text.split("\n\n"):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(columns) <= 3, "heading, rule and rows of every part"
    assert r"a\|b \`c\` \*d\* \<script\>alert(1) \&lt;" in text
    assert r"\$x_1\$ and \\frac{1}{0} {" in text
    assert r"\_under\_" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e\ud800-\udfff]", text)


class Text(HTMLParser):
    """The text that a page shows, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shown, self.elements = "", set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_the_page_shows_every_name_as_text(report):
    page = (report[0] / "index.html").read_text("utf-8")
    read = Text(page)
    assert "script" not in read.elements
    for name in [*NAMES[:7], NAMES[9], "שלום עולם", "gnirts", "x" * 300, "new line"]:
        assert name in read.shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", page)


def picture(name: str, folder: Path) -> np.ndarray:
    """The pixels of a figure with that title."""
    from mtlcluster.collect import fonts

    with style.use_style(fonts.families(name)[0]):
        figure, _, _ = style.grid_of_panels([name])
        figure.savefig(folder / "title.png")
    return np.asarray(Image.open(folder / "title.png"))


CJK = ["任务", "データ", "감정"]
has_cjk = "CJK" in "".join(entry.name for entry in font_manager.fontManager.ttflist)


@pytest.mark.skipif(not has_cjk, reason="no CJK font is here (Debian package fonts-noto-cjk)")
def test_figures_show_names_in_the_fonts_that_are_here(tmp_path, report):
    from mtlcluster.collect import fonts

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of missing glyphs
        for name in CJK:
            assert fonts.families(name)[1] == ""
            assert not np.array_equal(picture(name, tmp_path), picture(name[::-1], tmp_path)), "no boxes, all alike"
    assert "JP" in fonts.families("データ分類")[0][1].split()
    assert "SC" in fonts.families("任务")[0][1].split()
    assert "KR" in fonts.families("감정")[0][1].split()
    assert fonts.families("plain $x_1$ é ∞ Ω") == (["DejaVu Sans"], "")
    _, lines = report
    assert not any(character in "".join(lines) for character in "".join(CJK))


def test_without_such_a_font_it_is_said_once_in_words(trained, monkeypatch, capfd):
    """There is no warning for each character."""
    own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    font_manager.fontManager._findfont_cached.cache_clear()
    _, lines = collected(trained, "bare", "schedule")
    assert len(lines) == 2
    assert lines[1].startswith("no installed font has ")
    assert lines[1].endswith(": figures show boxes instead; to fix that, install a font and remove report/")
    assert capfd.readouterr().err == ""
    font_manager.fontManager._findfont_cached.cache_clear()


def test_a_number_stays_a_number_and_a_text_is_none():
    from mtlcluster.csv_text import csv_text

    written = ["-1", "+1.5", "-1e-9", "-.5", "-inf", "nan", -2.5, "-1-1", "+a", "=1", "--1", "-", "-1,5", "1=1", ""]
    [row] = csv.reader(csv_text([written]).splitlines())
    assert row == ["-1", "+1.5", "-1e-9", "-.5", "-inf", "nan", "-2.5", "'-1-1", "'+a", "'=1", "'--1", "'-", "'-1,5",
                   "1=1", ""]  # fmt: skip


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is missing")
@pytest.mark.long
def test_a_browser_shows_the_page(report, tmp_path):
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"{report[0]}/index.html"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "<script" not in dom
    assert "情感分類 (任务)" in dom
