"""What a reader sees of a verdict: on the page, in verdict.md and in verdict.tex."""

import shutil
import subprocess
from dataclasses import replace

import pytest
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.verdict.latex import in_latex, verdict_latex
from mtlcluster.collect.verdict.markdown import verdict_markdown
from mtlcluster.collect.verdict.result import Verdict
from mtlcluster.collect.verdict.section import verdict_section

EQUAL = [0.80, 0.81, 0.79, 0.82, 0.80]
LEADS = [0.88, 0.89, 0.87, 0.90, 0.881]
WRONGLY = "1 in 20 such tables wrongly leaves one out"


@pytest.fixture
def sweep(tmp_path):
    return Contestants.at(tmp_path / "runs")


def texts(sweep):
    return texts_of(verdict_of(sweep.sweep))


def texts_of(verdict: Verdict) -> tuple[str, str, str]:
    """The verdict as HTML, Markdown and LaTeX."""
    return "\n".join(verdict_section(verdict)), verdict_markdown("runs", verdict), verdict_latex("runs", verdict)


def renamed(verdict: Verdict, old: str, new: str) -> Verdict:
    """The verdict with another name of one method."""
    methods = [replace(one, name=new) if one.name == old else one for one in verdict.methods]
    return replace(verdict, methods=methods, best_group=[new if name == old else name for name in verdict.best_group])


def bold(texts):
    """How many rows are bold in each."""
    return [text.count(mark) for text, mark in zip(texts, ("<tr class=best>", "| **", r"\textbf{"), strict=True)]


def test_a_clear_winner_alone_is_bold_and_the_texts_say_what_bold_means(sweep):
    sweep.singles()
    for name, values in (("equal", EQUAL), ("pcgrad", LEADS), ("cagrad", EQUAL[::-1])):
        sweep.plain(name, values)
    page, markdown, latex = made = texts(sweep)
    assert bold(made) == [1, 1, 1]
    assert "<tr class=best><th scope=row><span>pcgrad</span>" in page
    assert "| **pcgrad**" in markdown
    assert r"\textbf{pcgrad}" in latex
    assert all(WRONGLY in text for text in made)


def test_where_no_method_is_told_apart_nothing_is_bold(sweep):
    sweep.singles()
    for name, values in (("equal", EQUAL), ("pcgrad", EQUAL[::-1]), ("cagrad", [*EQUAL[2:], *EQUAL[:2]])):
        sweep.plain(name, values)
    made = texts(sweep)
    assert bold(made) == [0, 0, 0]
    assert not any(WRONGLY in text for text in made)


def test_with_one_seed_a_large_difference_is_not_bold(sweep):
    sweep.singles()
    sweep.plain("equal", EQUAL[:1])
    sweep.plain("pcgrad", LEADS[:1])
    page, *others = texts(sweep)
    assert bold([page, *others]) == [0, 0, 0]
    assert "With one seed no test is possible" in page
    assert "not tested" in page


def test_half_way_nothing_is_bold_and_the_page_says_that_more_is_to_come(sweep):
    seeds = range(1, 6)
    for name, values in (("equal", EQUAL), ("pcgrad", LEADS), ("cagrad", EQUAL[::-1])):
        full = method() if name == "equal" else method(gradient=name)
        sweep.tried(name, full, [0.5])
        by_seed = {seed: {"left/accuracy": value, "ink/mae": 2.0} for seed, value in zip(seeds, values, strict=True)}
        sweep.confirmed(name, full, 0, by_seed, **({"seed_5": "running"} if name == "cagrad" else {}))
    sweep.search([*seeds])
    page, *others = texts(sweep)
    assert bold([page, *others]) == [0, 0, 0]
    assert "Half-way" in page
    assert all("1 of 5 confirming runs" in text for text in (page, *others))


def test_an_untuned_grid_says_so_and_what_is_missing_stands_in_red_with_the_lines_to_add(sweep):
    sweep.plain("pcgrad", EQUAL)
    sweep.plain("cagrad", LEADS)
    page, markdown, _ = texts(sweep)
    assert all("Nothing was tuned" in text for text in (page, markdown))
    red = page.split('<div class="missing">')[1].split("</div>")[0]
    for line in ("tune: {trials: 12}", "methods: equal", "{schedule: single}", "{name: static, draws: 12}"):
        assert line in red


def test_names_with_special_characters_are_text_everywhere(sweep):
    sweep.singles()
    sweep.plain("equal", EQUAL)
    sweep.plain("pcgrad", LEADS)
    page, markdown, latex = texts_of(renamed(verdict_of(sweep.sweep), "pcgrad", "a|b<i>&_%"))
    assert "a|b&lt;i&gt;&amp;_%" in page
    assert "<i>" not in page
    widths = {len(line.replace(r"\|", "").split("|")) for line in markdown.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert r"a\textbar{}b\textless{}i\textgreater{}\&\_\%" in latex


def test_what_latex_would_read_as_a_command_is_escaped():
    assert in_latex(r"50 % of a_b & {c}\d #1 $x^2 ~") == (
        r"50 \% of a\_b \& \{c\}\textbackslash{}d \#1 \$x\textasciicircum{}2 \textasciitilde{}"
    )
    assert in_latex("-0.5 to +0.1, a-b") == "$-$0.5 to +0.1, a-b"


@pytest.mark.long  # needs a LaTeX: apt-get install texlive-latex-recommended
def test_latex_compiles(sweep, tmp_path):
    sweep.singles()
    for name, values in (("equal", EQUAL), ("pcgrad", LEADS), ("cagrad", EQUAL[::-1])):
        sweep.plain(name, values)
    verdict = renamed(verdict_of(sweep.sweep), "pcgrad", "a|b<i>&_%{}~^$#\\é")
    assert shutil.which("pdflatex"), "pdflatex is missing: apt-get install texlive-latex-recommended"
    (tmp_path / "verdict.tex").write_text(texts_of(verdict)[2])
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{verdict}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").exists()
