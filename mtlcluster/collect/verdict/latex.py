"""report/verdict.tex: the main table for a paper, with the packages booktabs and nothing else."""

import re

from mtlcluster.collect.verdict.explanations import BOLD_MEANS, about_table
from mtlcluster.collect.verdict.main_table import MainTable, main_table
from mtlcluster.collect.verdict.result import Verdict

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
    "±": r"$\pm$", "–": "--", "−": "$-$", "·": r"$\cdot$", "δ": r"$\delta$", "Δ": r"$\Delta$", "²": r"$^2$",
    "…": r"\ldots{}", "“": "``", "”": "''",
}  # fmt: skip
SIGNED = re.compile(r"(?<![\w.])-(?=\d)")  # a minus before a number
LEFT_OUT = ("backwards",)


def in_latex(text: str) -> str:
    """`text` as LaTeX prints it. Characters that pdflatex's fonts lack become a question mark."""
    text = SIGNED.sub("−", text)
    return "".join(SPECIAL.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def verdict_latex(name: str, verdict: Verdict) -> str:
    r"""The text of verdict.tex: a table to \input, with what its caption has to say.

    Args:
        name: The name of the sweep.
        verdict: The verdict.
    """
    caption = " ".join([f"{name}:", *verdict.sentences[1:], about_table(verdict)])
    caption += f" {BOLD_MEANS}" if verdict.strict else ""
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{in_latex(caption)}}}",
            *_tabular(main_table(verdict)),
            r"\end{table}",
            "",
        ]
    )


def _tabular(table: MainTable) -> list[str]:
    places = [i for i, heading in enumerate(table.headings) if heading not in LEFT_OUT]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(places)}}}", r"\toprule"]
    lines.append(" & ".join(["method", *(in_latex(table.headings[i]) for i in places)]) + r" \\")
    lines.append(r"\midrule")
    for row in table.rows:
        name = in_latex(row.name)
        cells = [rf"\textbf{{{name}}}" if row.bold else name, *(in_latex(row.cells[i]) for i in places)]
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]
