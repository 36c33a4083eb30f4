"""report/verdict.md: the verdict and its main table in Markdown."""

from mtlcluster.collect.escaping import in_markdown
from mtlcluster.collect.verdict.explanations import HALF_WAY, about_table, bold_means
from mtlcluster.collect.verdict.main_table import MainTable, main_table
from mtlcluster.collect.verdict.result import Verdict


def verdict_markdown(name: str, verdict: Verdict) -> str:
    """The text of verdict.md.

    Args:
        name: The name of the sweep.
        verdict: The verdict.
    """
    parts = [f"# {in_markdown(name)}", " ".join(map(in_markdown, verdict.sentences))]
    if not verdict.complete:
        parts.insert(1, HALF_WAY)
    parts += [_table(main_table(verdict)), about_table(verdict), bold_means(verdict)]
    parts.append(_list("Missing for a fair comparison:", verdict.missing))
    parts.append(_list("What limits the verdict:", verdict.warnings))
    if verdict.front:
        parts.append(_list("Trade-offs:", verdict.front.sentences))
    return "\n\n".join(filter(None, parts)) + "\n"


def _list(title: str, lines: list[str]) -> str:
    return "\n".join([title, "", *(f"- {in_markdown(line)}" for line in lines)]) if lines else ""


def _table(table: MainTable) -> str:
    lines = [["method", *map(in_markdown, table.headings)], ["---", *("--:" for _ in table.headings)]]
    for row in table.rows:
        name = in_markdown(row.name)
        name = f"**{name}**" if row.bold else name
        about = row.missing or row.setting
        lines.append([f"{name} ({in_markdown(about)})" if about else name, *map(in_markdown, row.cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
