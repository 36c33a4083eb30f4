"""The verdict on the page: sentences, what is missing, and the main table."""

from mtlcluster.collect.escaping import in_html
from mtlcluster.collect.verdict.explanations import HALF_WAY, about_table, bold_means
from mtlcluster.collect.verdict.main_table import MainRow, MainTable, main_table
from mtlcluster.collect.verdict.result import Verdict

BESIDE, METRICS = 3, 8  # leading metrics beside the other columns; in a table of their own
DENSE = 7  # columns; in a wider table they stand closer together


def verdict_section(verdict: Verdict) -> list[str]:
    """The HTML of the verdict. All that a user chose, such as names, is escaped."""
    parts = ['<h2 id="verdict">Verdict</h2>']
    if not verdict.complete:
        parts.append(f'<p class="soft">{HALF_WAY}</p>')
    parts.append(f'<p class="verdict">{" ".join(map(in_html, verdict.sentences))}</p>')
    if verdict.missing:
        asked = "".join(f"<li>{in_html(one)}</li>" for one in verdict.missing)
        parts.append(f'<div class="missing"><strong>Missing for a fair comparison:</strong><ul>{asked}</ul></div>')
    parts += _table(main_table(verdict), verdict)
    if verdict.warnings:
        parts.append(f'<ul class="soft">{"".join(f"<li>{in_html(one)}</li>" for one in verdict.warnings)}</ul>')
    if verdict.front:
        parts.append(f"<p>{' '.join(map(in_html, verdict.front.sentences))}</p>")
    return parts


def _table(table: MainTable, verdict: Verdict) -> list[str]:
    links = '<a href="verdict.json">JSON</a> · <a href="verdict.md">Markdown</a> · <a href="verdict.tex">LaTeX</a>'
    explained = " ".join(filter(None, [about_table(verdict), bold_means(verdict)]))
    main, *others = (_part(table, part, number) for number, part in enumerate(table.parts(BESIDE, METRICS)))
    return [main, f'<p class="soft">{in_html(explained)} {links}</p>', *others]


def _part(table: MainTable, places: list[int], number: int) -> str:
    dense = " class=dense" if len(places) > DENSE else ""
    headings = [in_html(table.headings[i]).replace("_", "_<wbr>").replace("/", "/<wbr>") for i in places]
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "\n".join(_row(row, places, main=number == 0) for row in table.rows)
    name = f"table-verdict{f'-{number}' if number else ''}"
    return (
        f'<div class="scroll"><table id="{name}"{dense}><thead><tr><th>method</th>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: MainRow, places: list[int], main: bool) -> str:
    """Bold speaks of z, not of single tasks: it stands in the main table alone."""
    name = in_html(row.name).replace("_", "_<wbr>")
    more = (row.missing or row.setting) if main else ""
    soft = f'<br><span class="std">{in_html(more)}</span>' if more else ""
    cells = "".join(f"<td>{_cell(row.cells[i])}</td>" for i in places)
    return f"<tr{' class=best' if row.bold and main else ''}><th scope=row><span>{name}</span>{soft}</th>{cells}</tr>"


def _cell(text: str) -> str:
    shown = in_html(text).replace("-", "−")
    mean, plus_minus, spread = shown.partition(" ± ")
    return f'{mean} <span class="std">± {spread}</span>' if plus_minus else shown
