"""The appendix of the verdict: what was chosen from what, and the comparison of each task."""

from mtlcluster.collect.escaping import in_html
from mtlcluster.collect.page_template import plain_table
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.main_table import shown_values
from mtlcluster.collect.verdict.rows import Row


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
    return f"<details><summary>{in_html(name)}: {chosen}</summary>{table}</details>"
