"""The verdict on the page: sentences, what is missing, and the main table."""

from mtlcluster.collect.escaping import in_html
from mtlcluster.collect.verdict.explanations import HALF_WAY, about_table, bold_means
from mtlcluster.collect.verdict.main_table import MainRow, MainTable, main_table
from mtlcluster.collect.verdict.result import Verdict

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
    dense = " class=dense" if len(table.headings) > DENSE else ""
    head = "".join(f"<th>{in_html(h).replace('_', '_<wbr>').replace('/', '/<wbr>')}</th>" for h in table.headings)
    body = "\n".join(_row(row) for row in table.rows)
    links = '<a href="verdict.json">JSON</a> · <a href="verdict.md">Markdown</a> · <a href="verdict.tex">LaTeX</a>'
    explained = " ".join(filter(None, [about_table(verdict), bold_means(verdict)]))
    return [
        f'<div class="scroll"><table id="table-verdict"{dense}><thead><tr><th>method</th>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>",
        f'<p class="soft">{in_html(explained)} {links}</p>',
    ]


def _row(row: MainRow) -> str:
    name = in_html(row.name).replace("_", "_<wbr>")
    about = row.missing or row.setting
    soft = f'<br><span class="std">{in_html(about)}</span>' if about else ""
    cells = "".join(f"<td>{_cell(cell)}</td>" for cell in row.cells)
    return f"<tr{' class=best' if row.bold else ''}><th scope=row><span>{name}</span>{soft}</th>{cells}</tr>"


def _cell(text: str) -> str:
    shown = in_html(text).replace("-", "−")
    mean, plus_minus, spread = shown.partition(" ± ")
    return f'{mean} <span class="std">± {spread}</span>' if plus_minus else shown
