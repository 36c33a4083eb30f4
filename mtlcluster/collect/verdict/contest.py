"""Everything that is compared: the methods with their chosen settings, and what their values are relative to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mtlcluster.collect.read_histories import FinishedRun, OmittedRun, TaskInfo
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.verdict.baseline import baseline_rows, baselines, best_row, make_scale
from mtlcluster.collect.verdict.comparable import Table, comparable
from mtlcluster.collect.verdict.plain_grid import plain_rows
from mtlcluster.collect.verdict.report_file import Report
from mtlcluster.collect.verdict.result import Baseline
from mtlcluster.collect.verdict.rows import Row, Rows
from mtlcluster.collect.verdict.scores import Scale
from mtlcluster.collect.verdict.selection import searched_rows
from mtlcluster.collect.verdict.sources import report_file
from mtlcluster.errors import nearest
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.series import EVALUATIONS, kind
from mtlcluster.sweep.trials import read_search


@dataclass(frozen=True)
class Contest:
    """What a verdict is made of.

    Attributes:
        rows: All rows.
        tasks: The tasks.
        leading: By task the metrics that decide, and the better direction of each.
        data: The data that decide: "test" where there are any, else "validation".
        reference: The row that the others are compared with.
        relative_to: "single-task training", "the plain sum" or "".
        baseline_rows: The row of each task's baseline.
        baseline: The baseline of each task on these data.
        scales: By kind of data what the values are relative to; None where that is not known.
        report: report.yaml.
    """

    rows: Rows
    tasks: list[TaskInfo]
    leading: dict[str, dict[str, str]]
    data: str
    reference: Row | None
    relative_to: str
    baseline_rows: dict[str, Row]
    baseline: dict[str, Baseline]
    scales: dict[str, Scale | None]
    report: Report

    @cached_property
    def table(self) -> Table:
        """The values that are compared: methods by seeds."""
        return comparable(self.rows.rows, self.scales[self.data])


def make_contest(
    sweep: Sweep,
    settings: Sequence[Setting],
    tasks: Sequence[TaskInfo],
    finished: Sequence[FinishedRun],
    omitted: Sequence[OmittedRun],
) -> Contest:
    """Chooses the settings and finds the baselines.

    Args:
        sweep: The sweep.
        settings: Its finished runs by setting.
        tasks: The tasks that some run trained.
        finished: Its finished runs.
        omitted: All other runs.

    Raises:
        UserError: report.yaml is wrong, or trials.json or a choice can't be read.
    """
    report = Report(report_file(sweep))
    search = read_search(sweep.trials)
    rows = searched_rows(sweep, search, finished, omitted) if search else plain_rows(sweep, settings, omitted)
    leading = report.leading(tasks)
    has_test = any(kind(key) == "test" for run in finished for key in run.values)
    data = "test" if has_test else "validation"
    relative_to, of = baseline_rows(rows.rows, leading)
    by_data = {part: baselines(of, leading, part) for part in EVALUATIONS}
    scales = {part: make_scale(by_data[part], leading, part, finished) for part in EVALUATIONS}
    return Contest(
        rows=rows,
        tasks=list(tasks),
        leading=leading,
        data=data,
        reference=_reference(rows, report),
        relative_to=relative_to if scales[data] else "",
        baseline_rows=of,
        baseline=by_data[data],
        scales=scales,
        report=report,
    )


def _reference(rows: Rows, report: Report) -> Row | None:
    """The row that the others are compared with: the one that report.yaml names, else the plain sum."""
    multi = [row for row in rows.rows if not row.single]
    wanted = report.keys.reference
    if wanted is None:
        return best_row((row for row in multi if row.plain_sum), rows.direction)
    named = [row for row in multi if row.name == wanted] or [row for row in multi if row.method == wanted]
    if not named and all(row.ended for row in multi):
        names = {name for row in multi for name in (row.name, row.method)}
        report.refuse(("reference",), f"there is no method '{wanted}' in this sweep{nearest(wanted, names)}")
    return best_row(named, rows.direction)
