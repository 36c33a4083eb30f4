"""The page `index.html`: the results, the figures, every number, which runs there were, and how to read all this."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from mtlcluster.collect.columns import DELTA_M, MEAN_RANK, Column
from mtlcluster.collect.escaping import in_html
from mtlcluster.collect.figures import Drawn
from mtlcluster.collect.page_template import page, plain_table
from mtlcluster.collect.read_histories import FinishedRun, OmittedRun
from mtlcluster.collect.settings import Setting, best_epoch_rule
from mtlcluster.collect.table_text import CellText, cell_texts, seeds_shown
from mtlcluster.collect.tables import Table, side_by_side
from mtlcluster.collect.verdict.appendix import choices_section, tasks_section
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.result import Verdict
from mtlcluster.collect.verdict.section import verdict_section
from mtlcluster.sweep import series

PIXELS = 120  # on the page for an inch of a figure: a little larger than in print
LISTED = 20  # names that are shown openly; a longer list is folded
RUNS_LISTED = 200  # on the page; runs.csv has all
LONG = 40  # characters; longer names may break anywhere
DENSE = 7  # columns; in a wider table they stand closer together
TUNED = (
    "Thresholds: where a task's is chosen, it is the one of the best F1 on the validation data of each epoch. What is "
    "decided by it on these very data looks a little better than it is; test data are decided by the best epoch's."
)


def make_page(
    name: str,
    settings: list[Setting],
    omitted: list[OmittedRun],
    contest: Contest,
    verdict: Verdict,
    of_verdict: Sequence[Drawn],
    tables: Sequence[Table],
    figures: Sequence[Drawn],
) -> str:
    """Makes the whole page. All that a user chose, such as names of sweeps, runs and tasks, is escaped.

    Args:
        name: The name of the sweep.
        settings: The settings in the report.
        omitted: The runs that are not in it.
        contest: What the verdict is made of.
        verdict: The verdict.
        of_verdict: Its figures.
        tables: The results first.
        figures: In the order of the page.
    """
    runs = [run for setting in settings for run in setting.runs]
    results, *others = tables
    parts = [
        f"<h1>{in_html(name)}</h1>",
        f'<p class="soft">{in_html(summary(len(runs), omitted))}</p>',
        '<nav><a href="#verdict">Verdict</a><a href="#results">Every setting</a><a href="#figures">Figures</a>'
        '<a href="#tables">All values</a><a href="#runs">Runs</a><a href="#configuration">Configuration</a>'
        '<a href="#reading">How to read this</a>'
        "</nav>",
        *verdict_section(verdict),
        _omitted(omitted),
        *map(_figure, of_verdict),
        '<h2 id="results">Every setting</h2>',
        *_table(results),
        *(f"<p class='soft'>{in_html(text)}</p>" for text in _about_results(settings, results)),
        '<h2 id="figures">Figures</h2>',
        *map(_figure, figures),
        '<h2 id="tables">All values</h2>',
        *(f"<h3>{in_html(table.title)}</h3>\n" + "\n".join(_table(table)) for table in others),
        *tasks_section(contest),
        *choices_section(contest),
        '<h2 id="runs">Runs</h2>',
        _runs(runs),
        '<h2 id="configuration">Configuration</h2>',
        _configuration(runs),
        '<h2 id="reading">How to read this</h2>',
        *(f"<p>{in_html(text)}</p>" for text in notes(settings)),
    ]
    return page(f"{name} · mtlcluster", "\n".join(part for part in parts if part))


def summary(finished: int, omitted: Sequence[OmittedRun]) -> str:
    """Such as '12 of 14 runs; not in this report: 1 failed, 1 running'."""
    counts = Counter(run.state for run in omitted)
    rest = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    total = finished + len(omitted)
    return f"{finished} of {total} run{'s' if total != 1 else ''}" + (f"; not in this report: {rest}" if rest else "")


def _omitted(omitted: list[OmittedRun]) -> str:
    if not omitted:
        return ""
    lines = []
    box = "soft" if all(run.state == "pruned" for run in omitted) else "warn"
    ordered = sorted(omitted, key=lambda run: (run.state, run.name))
    for state, runs in groupby(ordered, key=lambda run: run.state):
        of_state = list(runs)
        names = "".join(
            f"<li>{in_html(run.name)}{': ' + in_html(run.reason) if run.reason else ''}</li>" for run in of_state
        )
        opened = " open" if len(of_state) <= LISTED and state != "pruned" else ""
        lines.append(f"<details{opened}><summary>{len(of_state)} {in_html(state)}</summary><ul>{names}</ul></details>")
    return f'<div class="{box}"><strong>Not in this report:</strong> {"".join(lines)}</div>'


def _table(table: Table) -> list[str]:
    links = f'<a href="tables/{table.name}.csv">CSV</a> · <a href="tables/{table.name}.md">Markdown</a>'
    parts = [_part(part, f"table-{table.name}{f'-{i}' if i else ''}") for i, part in enumerate(side_by_side(table))]
    return [*parts, f'<p class="soft">{in_html(_caption(table))} {links}</p>']


def _part(table: Table, name: str) -> str:
    lines = []
    for setting, row in zip(table.settings, cell_texts(table), strict=True):
        label = f"<th scope=row>{in_html(setting.label)}</th><td>{seeds_shown(setting)}</td>"
        lines.append(f"<tr>{label}{''.join(map(_cell, row))}</tr>")
    head = _head(table.columns)
    body = "\n".join(lines)
    dense = " class=dense" if len(table.columns) > DENSE else ""
    return f'<div class="scroll"><table id="{name}"{dense}><thead>{head}</thead>\n<tbody>{body}</tbody></table></div>'


def _cell(cell: CellText) -> str:
    extra = " ".join(filter(None, (cell.spread, cell.note)))
    extra = f' <span class="std">{extra}</span>' if extra else ""
    return f"<td>{cell.mean.replace('-', '−')}{extra}</td>"


def _head(columns: list[Column]) -> str:
    groups = [(name, len(list(found))) for name, found in groupby(columns, key=lambda column: column.group)]
    above = "".join(_above(name, n) for name, n in groups)
    # A long name may break, but not before its arrow.
    headings = [re.sub(" ([↑↓])$", r"&nbsp;\1", in_html(c.heading)).replace("_", "_<wbr>") for c in columns]
    below = "".join(f"<th>{heading}</th>" for heading in headings)
    return f'<tr class="groups"><th></th><th></th>{above}</tr><tr><th>setting</th><th>n</th>{below}</tr>'


def _above(name: str, columns: int) -> str:
    if not name:
        return "<th></th>" * columns
    return f"<th colspan={columns}{' class=long' if len(name) > LONG else ''}>{in_html(name)}</th>"


def _caption(table: Table) -> str:
    if table.name == "cost":
        return "Means over seeds ± standard deviation; comparable only between runs on equal, equally loaded machines."
    if table.name == "confusion":
        return "How many samples, by truth and decision: means over seeds ± standard deviation, at the best epochs."
    text = f"{table.title}: mean over n seeds ± standard deviation over seeds, each run at its best validation epoch."
    return text


def _about_results(settings: list[Setting], results: Table) -> list[str]:
    texts = []
    keys = {column.key for column in results.columns}
    if DELTA_M in keys:
        texts.append(
            "Δm % is the mean relative change of the tasks' metrics in this table against the single-task baselines "
            "(their mean over seeds); negative is better than single-task training. This table counts all seeds of a "
            "setting, those of a search among them; z in the verdict counts fresh seeds alone, so −z may differ."
        )
    else:
        texts.append(
            "Δm % is left out: it needs single-task baselines of all tasks. The verdict says what to add to the grid, "
            "if they are not on their way."
        )
    if MEAN_RANK in keys:
        texts.append("Mean rank: among the multi-task settings, averaged over the tasks' metrics; 1 is best.")
    if any(not column.group and series.value(column.key) in series.OVER_BINARY_TASKS for column in results.columns):
        texts.append(
            "Over all binary tasks: the mean of their F1; the share of samples whose decisions are all right (exact "
            "match); the mean of |Y ∩ Ŷ| / |Y ∪ Ŷ| over the sets of tasks that are yes, in truth and by decision, 1 "
            "where both are empty (Hamming score)."
        )
    return texts


def _figure(figure: Drawn) -> str:
    width, height = (round(PIXELS * side) for side in figure.size)
    source = f"figures/{figure.name}"
    return (
        f'<figure id="figure-{figure.name}"><h3>{in_html(figure.title)}</h3><a class="paper" href="{source}.png">'
        f'<img src="{source}.png" width="{width}" height="{height}" alt="{in_html(figure.title)}"></a>'
        f'<figcaption>{in_html(figure.caption)} <a href="{source}.pdf">PDF</a></figcaption></figure>'
    )


def _runs(runs: list[FinishedRun]) -> str:
    lines = []
    for run in sorted(runs, key=lambda run: run.name)[:RUNS_LISTED]:
        best = f"{run.best['value']} {run.best['number']:.5g}" if run.best else "–"
        where = [run.cluster, run.device, str(run.attempts)]
        lines.append([run.name, run.method, str(run.seed), str(run.epoch), best, *where])
    table = plain_table(["run", "method", "seed", "best epoch", "best value", "cluster", "device", "attempts"], lines)
    rest = f" The first {RUNS_LISTED} of {len(runs)} are listed." if len(runs) > RUNS_LISTED else ""
    opened = " open" if len(runs) <= LISTED else ""
    link = '<a href="tables/runs.csv">runs.csv</a>'
    folded = f"<details{opened}><summary>{len(runs)} runs</summary>{table}</details>"
    return f"<p>Every value of every run is in {link}.{rest}</p>{folded}"


def _configuration(runs: list[FinishedRun]) -> str:
    """The options that all runs share. Those that vary are in the names of the settings."""
    first = runs[0].config
    same = {k: v for k, v in first.items() if k != "origin" and all(run.config.get(k) == v for run in runs)}
    lines = [[key, json.dumps(value, default=str, ensure_ascii=False)] for key, value in same.items()]
    versions = {f"{k} {v}" for run in runs for k, v in run.versions.items()}
    lines += [["versions", ", ".join(sorted(versions))], ["devices", ", ".join(sorted({run.device for run in runs}))]]
    return f"<details><summary>What all runs have in common</summary>{plain_table([], lines)}</details>"


def notes(settings: list[Setting]) -> list[str]:
    """Sentences that explain how the numbers were computed."""
    rule = best_epoch_rule(settings)
    best = f"{'lowest' if rule[1] == 'min' else 'highest'} validation/{rule[0]}" if rule else "best value that it names"
    values = {key for setting in settings for run in setting.runs for key in run.values}
    tuned = any(series.value(key) == series.THRESHOLD for key in values)
    return [
        f"Epochs: each run's values are those of the epoch with the {best}. Test data play no part in that choice: "
        "they are evaluated once, with the checkpoint of that epoch. A run that chose none counts with its last epoch.",
        *([TUNED] if tuned else []),
        "Order: baselines come first, the others by that validation value. The best of many settings looks better than "
        "it is: only the verdict compares chosen settings, on fresh seeds where there are any. A number before a label "
        "in a figure is the row of the tables.",
        "Seeds: ± is the standard deviation over seeds (n − 1 in the denominator); bands and bars go from the lowest "
        "to the highest seed. Both show how far seeds lie apart; neither is a confidence interval of the mean, and "
        "one seed has neither. The intervals are in the verdict.",
        "Seeds of different length: a line goes on, pale and without a band, where some seeds have ended, as the mean "
        "of those that go on, and ends where more than half have.",
        "Missing values: steps at which a task was not active have no loss; values that are not finite are left out, "
        "and n then counts the others. Where no seed has a finite value, the table says ∞ or NaN.",
        "Single-task baselines: one run per task and seed with the schedule `single`, shown together as `single-task`; "
        "each task's values come from its own runs, and values across tasks are left out.",
    ]
