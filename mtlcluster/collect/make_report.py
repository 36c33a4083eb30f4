"""`mtlcluster collect`: makes `report/` from the histories of the runs that have finished, if anything is new."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlcluster.collect import report_folder
from mtlcluster.collect.plain_matplotlib import plain_matplotlib
from mtlcluster.collect.report_folder import PAGE, PARTS, Record
from mtlcluster.collect.run_list import ListedRun, list_runs
from mtlcluster.collect.verdict.sources import sources
from mtlcluster.errors import UserError
from mtlcluster.progress import Say, progress
from mtlcluster.sweep.disk import naming_the_disk
from mtlcluster.sweep.files import remove
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.locks import locked

if TYPE_CHECKING:  # needs numpy; a collect with nothing new does without
    from mtlcluster.collect.read_histories import FinishedRun, OmittedRun
    from mtlcluster.collect.verdict.contest import Contest
    from mtlcluster.collect.verdict.result import Verdict

NAMED = 10  # runs, or characters, that are named in a message
KEPT = ".histories"
BOXES = "no installed font has {}: figures show boxes instead; to fix that, install a font and remove report/"


class NothingFinished(UserError):
    """No run has finished yet: there is nothing to report."""


def make_report(sweep: Sweep, say: Say) -> Path:
    """Makes `report/` of all runs that have finished. Where nothing is new, no history is read and no figure drawn.

    Args:
        sweep: The sweep.
        say: Gets lines for the user: how many runs were collected and which were not.

    Returns:
        The path of the page.

    Raises:
        NothingFinished: No run has finished.
        UserError: Nothing can be written, or no history can be read.
    """
    try:
        with locked(sweep.folder / ".report.lock", say):
            former = report_folder.read_record(sweep)
            listed = list_runs(sweep, former.runs if former else ())
            if not any(entry.state == "done" for entry in listed):
                raise NothingFinished(_nothing_yet(sweep, Counter(entry.state for entry in listed)))
            if former and report_folder.is_current(former, sweep, listed):
                lines = [*former.lines, "nothing new since the last report"]
            else:
                with plain_matplotlib():
                    lines = _make(sweep, listed, former.files if former else [])
    except OSError as error:
        at = error.filename2 or error.filename or sweep.report  # filename2: what a renaming would have replaced
        raise UserError(f"{at}: {error.strerror or error}; no report was made") from error
    for line in lines:
        say(line)
    return sweep.report / PAGE


def _nothing_yet(sweep: Sweep, states: Counter[str]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "it has no runs"
    return f"sweep '{sweep.name}': nothing has finished yet ({counts})"


def _make(sweep: Sweep, listed: list[ListedRun], former: list[str]) -> list[str]:
    """Makes the report and returns the lines for the user. former: the files of the last report."""
    from mtlcluster.collect.kept_histories import read_new

    decided_by = sources(sweep)
    with progress("collecting", len(listed)) as advance:
        finished, omitted = read_new(listed, sweep.report / KEPT, report_folder.drawing_code(), advance)
    lines = _about_runs(finished, omitted)
    if not finished:
        raise UserError(f"sweep '{sweep.name}': no history can be read; {'; '.join(lines[1:])}")
    beside = sweep.folder / ".report.new"
    remove(beside)
    try:
        with naming_the_disk(sweep.report):
            lines += _write(sweep, finished, omitted, beside)
            files = report_folder.put_in_place(beside, sweep.report, former)
    finally:
        remove(beside)
    report_folder.write_record(sweep.report, Record(report_folder.drawing_code(), listed, lines, files, decided_by))
    return lines


def _about_runs(finished: "Sequence[FinishedRun]", omitted: "Sequence[OmittedRun]") -> list[str]:
    from mtlcluster.collect.page import summary

    unreadable = [run for run in omitted if run.state in ("unreadable", "unfinished")]
    lines = [f"collected {summary(len(finished), omitted)}"]
    lines += [f"passed over {run.name}: {run.reason}" for run in unreadable[:NAMED]]
    return lines + ([f"and {len(unreadable) - NAMED} more"] if len(unreadable) > NAMED else [])


def _decide(contest: "Contest", sweep: Sweep) -> "Verdict":
    """The verdict, with the test data's own error where the predictions tell it."""
    from mtlcluster.collect.bootstrap import LeftOut
    from mtlcluster.collect.verdict.samples import compared_runs, samples_error
    from mtlcluster.collect.verdict.verdict import make_verdict

    runs = compared_runs(contest)
    try:
        with progress("drawing the test samples anew", len(runs)) as advance:
            samples = samples_error(contest, runs, sweep, advance)
    except LeftOut as why:
        return make_verdict(contest, left_out=str(why))
    return make_verdict(contest, samples)


def _write(sweep: Sweep, finished: "list[FinishedRun]", omitted: "list[OmittedRun]", folder: Path) -> list[str]:
    """Writes the whole report into `folder`. Returns lines for the user."""
    from mtlcluster.collect import figures, page, result_dots, table_text, tables
    from mtlcluster.collect.settings import group_runs, trained_tasks
    from mtlcluster.collect.verdict import verdict_figures
    from mtlcluster.collect.verdict.baseline import SINGLE_TASK
    from mtlcluster.collect.verdict.contest import make_contest
    from mtlcluster.collect.verdict.latex import verdict_latex
    from mtlcluster.collect.verdict.looks import choose_all_looks
    from mtlcluster.collect.verdict.markdown import verdict_markdown
    from mtlcluster.collect.verdict.verdict_json import verdict_json

    folder.mkdir()
    for part in PARTS:
        (folder / part).mkdir()
    settings, tasks = group_runs(finished), trained_tasks(finished)
    contest = make_contest(sweep, settings, tasks, finished, omitted)
    verdict = _decide(contest, sweep)
    made = tables.make_tables(settings, tasks, contest.scales if contest.relative_to == SINGLE_TASK else {})
    looks = choose_all_looks(contest, settings)
    lines = result_dots.baseline_lines(verdict)
    drawing = figures.Figures(settings, tasks, made[0], looks.settings, lines, verdict.relative_to)
    with progress("drawing figures", len(verdict_figures.FIGURES) + len(figures.FIGURES)) as advance:
        of_verdict = verdict_figures.draw_verdict(contest, verdict, looks.methods, folder / "figures", advance)
        drawn = drawing.draw(folder / "figures", advance)
    texts = {PAGE: page.make_page(sweep.name, settings, omitted, contest, verdict, of_verdict, made, drawn)}
    texts["tables/runs.csv"] = table_text.runs_csv(settings)
    texts["verdict.json"] = verdict_json(verdict)
    texts["verdict.md"] = verdict_markdown(sweep.name, verdict)
    texts["verdict.tex"] = verdict_latex(sweep.name, verdict)
    for table in made:
        texts[f"tables/{table.name}.csv"] = table_text.as_csv(table)
        texts[f"tables/{table.name}.md"] = table_text.as_markdown(table)
    for file, text in texts.items():
        (folder / file).write_text(text, "utf-8", "backslashreplace")  # a lone surrogate is no UTF-8
    return [BOXES.format(drawing.boxes[:NAMED])] if drawing.boxes else []
