"""verdict.tex: for a paper."""

import shutil
import subprocess

import pytest
from rig import contests
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.verdict.latex import in_latex, verdict_latex

SPECIAL = r"a_b % c & d # e $f^2$ \g {h} ~ i < j > k | l"


def made(tmp_path, tasks):
    """The text for a sweep with all special characters in its names."""
    sweep = Contestants.at(tmp_path / "runs")
    for name, lead in (("equal", 0.0), ("pcgrad", 0.1)):
        full = method() if name == "equal" else method(gradient={"name": name, "note": SPECIAL + " Größe – é 中"})
        for seed in range(4):
            better = lead + 0.01 * ((seed * 7 + (name == "equal")) % 4)
            sweep.run(name, seed, full, {f"{task['name']}/accuracy": 0.7 + better for task in tasks})
    return verdict_latex("a_sweep & more", verdict_of(sweep.sweep))


@pytest.fixture(params=[2, 12])
def tasks(request, monkeypatch):
    found = [
        {"name": f"task_{i} of 100 %", "kind": "classification", "metrics": {"accuracy": "max"}}
        for i in range(request.param)
    ]
    monkeypatch.setattr(contests, "TWO", found)
    return found


def test_every_special_character_is_escaped_and_letters_keep_their_accents():
    assert in_latex(SPECIAL) == (
        r"a\_b \% c \& d \# e \$f\textasciicircum{}2\$ \textbackslash{}g \{h\} \textasciitilde{} i \textless{} j "
        r"\textgreater{} k \textbar{} l"
    )
    assert in_latex("Größe, é, 中: -0.5 to +1 ± 2") == r"Gr\"{o}\ss{}e, \'{e}, ?: $-$0.5 to +1 $\pm$ 2"


def test_only_a_strict_best_group_is_bold_and_a_wide_table_is_cut(tmp_path, tasks):
    text = made(tmp_path, tasks)
    assert text.count(r"\begin{tabular}") == (1 if len(tasks) == 2 else 4)
    assert text.count(r"\textbf") == text.count(r"\textbf{pcgrad") == 1
    assert r"\textbf{equal" not in text
    assert text.count("accuracy") >= len(tasks)


@pytest.mark.long
@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="needs pdflatex and booktabs: texlive-latex-base, texlive-latex-recommended"
)
def test_it_compiles(tmp_path, tasks):
    (tmp_path / "verdict.tex").write_text(made(tmp_path, tasks))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{verdict}\end{document}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
