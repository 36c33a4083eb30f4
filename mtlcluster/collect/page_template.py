"""The HTML frame and style of index.html. No scripts, nothing from a network; light, dark, narrow and printed."""

from mtlcluster.collect.escaping import in_html

CSS = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #5b6570; --line: #d9dee3; --back: #ffffff; --raised: #f5f7f9;
  --best: #0b6b4f; --link: #0b5fa5; --warn: #8a4b00; --warn-back: #fff6e6; --red: #b3261e; --red-back: #fdeeed; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --soft: #9aa5b1; --line: #353c44; --back: #14181c;
  --raised: #1d2329; --best: #6fd6b3; --link: #7db9f0; --warn: #f1c37a; --warn-back: #33280f;
  --red: #ff9d94; --red-back: #3a1715; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--back); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p + h3 { margin-top: 2rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.warn { border-left: 3px solid var(--warn); background: var(--warn-back); padding: .5rem .9rem; margin: 1rem 0;
  overflow-wrap: anywhere; }
.warn ul { margin: .25rem 0; padding-left: 1.2rem; }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: 1rem 0 0; font-size: .875rem; }
.scroll { overflow-x: auto; margin: .75rem 0 .35rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
thead tr.groups th { border-bottom: 0; padding-bottom: 0; }
thead tr.groups th[colspan] { box-shadow: inset 0 -1px 0 var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--back);
  padding-left: 0; }
thead tr.groups th[colspan]:not([colspan="1"]) { text-align: left; }
table.dense { font-size: .8rem; }
table.dense th, table.dense td { padding: .3rem .35rem; }
table.dense th:first-child { padding-left: 0; }
table.dense thead th { white-space: normal; }
table.dense thead tr.groups th { white-space: nowrap; }
table thead tr.groups th.long { white-space: normal; min-width: 12rem; max-width: 20rem; overflow-wrap: anywhere; }
tbody th { font-weight: 400; white-space: normal; min-width: 8rem; max-width: 24rem; overflow-wrap: break-word; }
tbody tr:hover > * { background: var(--raised); }
tr.best th > span:first-child { font-weight: 700; color: var(--best); }
.verdict { font-size: 1.05rem; max-width: 52rem; }
.missing { border-left: 3px solid var(--red); background: var(--red-back); padding: .5rem .9rem; margin: 1rem 0;
  overflow-wrap: anywhere; }
.missing strong { color: var(--red); }
.missing ul { margin: .25rem 0; padding-left: 1.2rem; }
.std { color: var(--soft); font-weight: 400; font-size: .92em; }
figure { margin: 1.75rem 0 2.25rem; }
figure .paper { display: inline-block; max-width: 100%; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; padding: .6rem; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 46rem; margin-top: .45rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; }
table.plain td, table.plain th { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
@media (max-width: 34rem) { body { padding: 1.25rem .9rem 3rem; } th, td { padding: .3rem .5rem; }
  figure .paper { display: block; overflow-x: auto; } figure img { max-width: 38rem; }
  tbody th { min-width: 6rem; max-width: 9.5rem; } }
@media print { :root { --text: #000; --soft: #444; --back: #fff; --raised: #fff; --best: #000; --link: #000;
  --line: #bbb; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; } .scroll { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: .15rem .35rem; } figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } figure .paper { border: 0; padding: 0; } }
"""


def page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{in_html(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def rows(kind: str, lines: list[list[str]]) -> str:
    """Rows of a plain table. kind: of its cells, `td` or `th`. The texts are escaped."""
    return "".join("<tr>" + "".join(f"<{kind}>{in_html(cell)}</{kind}>" for cell in line) + "</tr>\n" for line in lines)


def plain_table(headings: list[str], lines: list[list[str]]) -> str:
    head = f"<thead>{rows('th', [headings])}</thead>" if headings else ""
    return f'<div class="scroll"><table class="plain">{head}<tbody>\n{rows("td", lines)}</tbody></table></div>'
