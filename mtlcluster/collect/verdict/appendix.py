"""The appendix of the verdict: the comparison on each task, and what was chosen from what."""

import math
from collections.abc import Sequence

from mtlcluster.collect.escaping import in_html
from mtlcluster.collect.inference.compare import Comparison
from mtlcluster.collect.page_template import plain_table
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.main_table import UNKNOWN, interval, points_decimals, shown_values, signed
from mtlcluster.collect.verdict.per_task import PerTask, per_task
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.collect.verdict.words import counted
from mtlcluster.sweep.choices import Choice


def tasks_section(contest: Contest) -> list[str]:
    """The comparison of the methods with the reference on each task."""
    found = per_task(contest)
    if found is None:
        return []
    others, tasks = counted(len(found.methods) - 1, "method"), counted(len(found.tasks), "task")
    about = (
        f"Each task by itself, in points of its leading metrics: {others} against {found.reference} on "
        f"{counted(found.seeds, 'seed')}. All intervals of all {tasks} hold at once with 95 % (each task at the level "
        f"{0.05 / len(found.tasks):.2g}). The error of the {contest.data} data is left out here, and nothing is bold."
    )
    parts = ['<h2 id="tasks">Each task by itself</h2>', f"<p class='soft'>{in_html(about)}</p>"]
    return parts + [_task(task, found, compared) for task, compared in found.tasks.items()]


def _task(task: str, found: PerTask, compared: Comparison) -> str:
    lines, decimals = [], points_decimals(compared.means)
    for i in sorted(range(len(found.methods)), key=lambda i: (found.methods[i] != found.reference, -compared.means[i])):
        versus, words = compared.differences[i], compared.words[i]
        cells = [UNKNOWN, "", "", ""]
        if versus:
            p_better = f"{versus.p_better:.2f}" if math.isfinite(versus.p_better) else UNKNOWN
            between = interval(versus.low, versus.high, decimals)
            cells = [signed(versus.mean, decimals), between, words or "", p_better]
        lines.append([found.methods[i], signed(float(compared.means[i]), decimals), *cells])
    headings = ["method", "points", f"difference from {found.reference}", "interval", "compared", "P(better)"]
    return f"<details><summary>{in_html(task)}: {_found(compared)}</summary>{plain_table(headings, lines)}</details>"


def _found(compared: Comparison) -> str:
    counts = {word: compared.words.count(word) for word in ("better", "worse")}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none better or worse"


def choices_section(contest: Contest) -> list[str]:
    """The trials of every method, each with its values and the value that decides; the chosen one is marked."""
    searched = [row for row in contest.rows.rows if row.tried]
    if not searched:
        return []
    seeds = ", ".join(map(str, contest.rows.tuning_seeds))
    better = "lower" if contest.rows.direction == "min" else "higher"
    about = (
        f"The setting of each method is the trial with the best validation/{contest.rows.value} ({better} is better), "
        f"as the mean over its tuning seeds ({seeds}). A pruned trial can't be chosen; its value is the one at which "
        "it stopped. A method with nothing to search has one trial."
    )
    parts = ['<h2 id="choices">What was chosen from what</h2>', f"<p class='soft'>{in_html(about)}</p>"]
    return parts + [_trials(row) for row in searched]


def _earlier(choices: Sequence[Choice]) -> str:
    """The choices that a later one has replaced."""
    lines = [
        [f"earlier choice {one.number}", f"trial {one.trial}: {shown_values(one.values)}".rstrip(": "),
         counted(len(one.candidates), "trial"), ", ".join(one.runs.values())]
        for one in choices
    ]  # fmt: skip
    return plain_table(["", "setting", "chosen from", "confirming runs, which no longer count"], lines) if lines else ""


def _trials(row: Row) -> str:
    pruned_or_failed = {one.trial for one in row.tried if not one.runs}
    lines = []
    for one in row.tried:
        state = "chosen" if one.trial == row.trial else "not done" if one.trial in pruned_or_failed else ""
        number = "–" if one.value is None else f"{one.value:.5g}"
        lines.append([str(one.trial), shown_values(one.values), number, f"{one.backwards:,}", state])
    name = f"{row.name} ({row.single_task} alone)" if row.single_task and row.single_task not in row.name else row.name
    chosen = "nothing chosen yet" if row.trial is None else f"trial {row.trial} of {len(row.tried)}"
    table = plain_table(["trial", "values", "value", "backwards", ""], lines)
    return f"<details><summary>{in_html(name)}: {chosen}</summary>{table}{_earlier(row.earlier)}</details>"
