"""Tables of the values at the best validation epoch: mean and spread over the seeds of each setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mtlcluster.collect.columns import Column, confusion_columns, cost_columns, every_column, result_columns
from mtlcluster.collect.read_histories import TaskInfo
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import Spread
from mtlcluster.collect.verdict.scores import Scale
from mtlcluster.sweep.series import kind

DATA = {"validation": "validation data", "test": "test data"}
WIDE = 10  # columns that a page holds side by side


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: The name of its files.
        title: Its title on the page.
        columns: Its columns [C].
        settings: Its rows [S].
        rows: The cells [S][C].
    """

    name: str
    title: str
    columns: list[Column]
    settings: list[Setting]
    rows: list[list[Spread]]


def make_tables(settings: list[Setting], tasks: Sequence[TaskInfo], scales: Mapping[str, Scale | None]) -> list[Table]:
    """Makes the results (on test data where there are any), then tables of every value, of counts and of costs.

    Args:
        settings: The rows.
        tasks: The tasks.
        scales: By kind of data the single-task baselines that Δm is relative to; without them there is no Δm.
    """
    has_test = any(kind(key) == "test" for s in settings for run in s.runs for key in run.values)
    data = "test" if has_test else "validation"
    results = _table("results", f"Results on {DATA[data]}", settings, result_columns(data, tasks, scales.get(data)))
    others = [
        _table(part, f"Every value on {DATA[part]}", settings, every_column(part, tasks))
        for part in ("validation", "test")[: 1 + has_test]
    ]
    others.append(_table("confusion", f"Confusion matrices on {DATA[data]}", settings, confusion_columns(data, tasks)))
    others.append(_table("cost", "Cost", settings, cost_columns()))
    return [results, *(table for table in others if table.columns)]


def _table(name: str, title: str, settings: list[Setting], columns: list[Column]) -> Table:
    """A table of those columns that have any value."""
    made = [(column, column.cells(settings)) for column in columns]
    made = [(column, cells) for column, cells in made if any(cell.n or cell.other is not None for cell in cells)]
    rows = [[cells[row] for _, cells in made] for row in range(len(settings))]
    return Table(name, title, [column for column, _ in made], settings, rows)


def side_by_side(table: Table) -> list[Table]:
    """The table, cut between tasks into as many parts as needed for none to be too wide."""
    parts: list[list[int]] = [[]]
    for _, group in groupby(range(len(table.columns)), key=lambda i: table.columns[i].group):
        places = list(group)
        if parts[-1] and len(parts[-1]) + len(places) > WIDE:
            parts.append([])
        parts[-1] += places
    return [_cut(table, places) for places in parts]


def _cut(table: Table, places: list[int]) -> Table:
    rows = [[row[i] for i in places] for row in table.rows]
    return replace(table, columns=[table.columns[i] for i in places], rows=rows)
