"""report/verdict.tex: the main table for a paper, with the packages booktabs and nothing else."""

import re
import unicodedata

from mtlcluster.collect.verdict.explanations import HALF_WAY, about_table, bold_means
from mtlcluster.collect.verdict.main_table import MainTable, main_table
from mtlcluster.collect.verdict.result import Verdict

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
    "±": r"$\pm$", "–": "--", "−": "$-$", "·": r"$\cdot$", "δ": r"$\delta$", "Δ": r"$\Delta$", "²": r"$^2$",
    "…": r"\ldots{}", "“": "``", "”": "''",
}  # fmt: skip
ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))
LETTERS = {"ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ł": r"\l{}", "Ł": r"\L{}"}
SIGNED = re.compile(r"(?<![\w.])-(?=\d)")  # a minus before a number
LEFT_OUT = (
    "compared",
    "trials",
    "seeds",
    "fresh seeds",
    "backwards",
)  # columns; the caption has the words and the seeds
SHORTER = {"95 % interval": r"95\,\%", "P(better)": "$P$"}
BESIDE, METRICS = 2, 4  # leading metrics beside the other columns; in a table of their own


def in_latex(text: str) -> str:
    """`text` as LaTeX prints it. Characters that pdflatex's fonts lack become a question mark."""
    text = SIGNED.sub("−", text)
    return "".join(SPECIAL.get(c) or (c if c.isascii() and c.isprintable() else _letter(c)) for c in text)


def _letter(character: str) -> str:
    letter, *accents = [*unicodedata.normalize("NFD", character)]
    if len(accents) == 1 and accents[0] in ACCENTS and letter.isascii():
        return rf"\{ACCENTS[accents[0]]}{{{letter}}}"
    return LETTERS.get(character, "?")


def verdict_latex(name: str, verdict: Verdict) -> str:
    r"""The text of verdict.tex: a table to \input, with what its caption has to say.

    Args:
        name: The name of the sweep.
        verdict: The verdict.
    """
    half_way = "" if verdict.complete else HALF_WAY
    caption = [f"{name}:", half_way, *verdict.sentences, about_table(verdict), bold_means(verdict)]
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{in_latex(' '.join(filter(None, caption)))}}}",
            r"\medskip",
            "\n\n\\medskip\n".join(_tabulars(main_table(verdict))),
            r"\end{table}",
            "",
        ]
    )


def _tabulars(table: MainTable) -> list[str]:
    """The table; cut into several, one below the other, where it would be too wide for a page."""
    parts = [[i for i in part if table.headings[i] not in LEFT_OUT] for part in table.parts(BESIDE, METRICS)]
    return [_tabular(table, part, bold=number == 0) for number, part in enumerate(parts)]


def _tabular(table: MainTable, places: list[int], bold: bool) -> str:
    """One table. bold: whether names may be bold, which speaks of z, not of single tasks."""
    lines = [rf"\begin{{tabular}}{{l{'r' * len(places)}}}", r"\toprule"]
    above, below = zip(*(_heading(table.headings[i]) for i in places), strict=True)
    lines += [rf"{' & '.join(['', *above])} \\"] if any(above) else []
    lines.append(rf"{' & '.join(['method', *below])} \\")
    lines.append(r"\midrule")
    for row in table.rows:
        name = in_latex(row.name)
        cells = [rf"\textbf{{{name}}}" if row.bold and bold else name, *(in_latex(row.cells[i]) for i in places)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _heading(text: str) -> tuple[str, str]:
    """Two lines: of a leading metric its task above it, else the upper one is empty."""
    if text in SHORTER:
        return "", SHORTER[text]
    task, _, name = text.rpartition("/")
    return in_latex(task), in_latex("difference" if name.startswith("difference from ") else name)
