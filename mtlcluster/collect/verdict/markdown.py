"""report/verdict.md: the verdict and its main table in Markdown."""

from mtlcluster.collect.escaping import in_markdown
from mtlcluster.collect.verdict.explanations import BOLD_MEANS, about_table
from mtlcluster.collect.verdict.main_table import MainTable, main_table
from mtlcluster.collect.verdict.result import Verdict


def verdict_markdown(name: str, verdict: Verdict) -> str:
    """The text of verdict.md.

    Args:
        name: The name of the sweep.
        verdict: The verdict.
    """
    parts = [f"# {in_markdown(name)}", " ".join(map(in_markdown, verdict.sentences))]
    if verdict.missing:
        parts.append("Missing:\n\n" + "\n".join(f"- {in_markdown(one)}" for one in verdict.missing))
    if verdict.warnings:
        parts.append("\n".join(f"- {in_markdown(one)}" for one in verdict.warnings))
    parts += [_table(main_table(verdict)), about_table(verdict)]
    parts += [BOLD_MEANS] if verdict.strict else []
    return "\n\n".join(parts) + "\n"


def _table(table: MainTable) -> str:
    lines = [["method", *map(in_markdown, table.headings)], ["---", *("--:" for _ in table.headings)]]
    for row in table.rows:
        name = in_markdown(row.name)
        name = f"**{name}**" if row.bold else name
        about = row.missing or row.setting
        lines.append([f"{name} ({in_markdown(about)})" if about else name, *map(in_markdown, row.cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
