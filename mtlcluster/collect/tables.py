"""Tables: the values at the best validation epoch, mean and spread over seeds, as CSV, Markdown and for the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mtlcluster.collect.gather import CONFUSION, OVERALL, FinishedRun, Task
from mtlcluster.collect.names import in_markdown
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import Spread, delta_m, leaders, mean_ranks, spread
from mtlcluster.csv_text import csv_text

ARROWS = {"min": "↓", "max": "↑", "": ""}
DATA = {"validation": "validation data", "test": "test data"}
WIDE = 10  # columns that a page holds side by side


@dataclass(frozen=True)
class Column:
    """key: as in the history, `test/left/accuracy`; group: the task; direction: which is better, or "" for neither."""

    key: str
    group: str
    name: str
    direction: str

    @property
    def heading(self) -> str:
        return " ".join(part for part in (self.name, ARROWS[self.direction]) if part)


@dataclass(frozen=True)
class Table:
    """rows: for each setting one cell a column. best: the (row, column) that are shown in bold."""

    name: str
    title: str
    columns: list[Column]
    settings: list[Setting]
    rows: list[list[Spread]]
    best: set[tuple[int, int]]


def leading_metrics(task: Task) -> dict[str, str]:
    """The metrics that results and figures show: of a binary task, which has many, its F1; else all."""
    return {"f1": task.metrics["f1"]} if task.kind == "binary" and "f1" in task.metrics else task.metrics


def metric_columns(data: str, tasks: Sequence[Task]) -> list[Column]:
    """What the tasks are judged by together and each: its leading metrics, or its loss where it has none."""
    own = [(task.name, leading_metrics(task) or {"loss": "min"}) for task in tasks]
    each = [Column(f"{data}/{task}/{name}", task, name, way) for task, ways in own for name, way in ways.items()]
    return [*overall_columns(data, tasks), *each]


def overall_columns(data: str, tasks: Sequence[Task]) -> list[Column]:
    """What is computed over binary tasks, where there are several."""
    several = sum(task.kind == "binary" for task in tasks) > 1
    return [Column(f"{data}/{name}", "", shown, "max") for name, shown in OVERALL.items() if several]


def tables(found: list[Setting], tasks: list[Task]) -> list[Table]:
    """The results (metrics only, on test data where there are any), then every value, then what a step costs."""
    has_test = any(key.startswith("test/") for s in found for run in s.runs for key in run.values)
    data = "test" if has_test else "validation"
    made = [_table("results", f"Results on {DATA[data]}", found, metric_columns(data, tasks), data)]
    for part in ("validation", "test")[: 1 + has_test]:
        columns = [
            Column(f"{part}/{t.name}/{name}", t.name, name, way)
            for t in tasks
            for name, way in {**t.metrics, "loss": "min"}.items()
        ]
        columns += [Column(f"{part}/mean_loss", "", "mean loss", "min"), *overall_columns(part, tasks)]
        made.append(_table(part, f"Every value on {DATA[part]}", found, columns, ""))
    counts = [
        Column(f"{data}/{t.name}/confusion/{cell}", t.name, cell.replace("_", " "), "")
        for t in tasks
        for cell in CONFUSION
    ]
    made.append(_table("confusion", f"Confusion matrices on {DATA[data]}", found, counts, ""))
    costs = [
        Column("measured/samples_per_second", "", "samples/s", ""),
        Column("measured/epoch_seconds", "", "seconds/epoch", ""),
        Column("measured/peak_memory_mib", "", "peak memory (MiB)", ""),
    ]
    made.append(_table("cost", "Cost", found, costs, ""))
    return [made[0], *(table for table in made[1:] if table.columns)]


def side_by_side(table: Table) -> list[Table]:
    """The table, or as many as it takes for none to be too wide, cut between tasks."""
    parts: list[list[int]] = [[]]
    for _, group in groupby(range(len(table.columns)), key=lambda i: table.columns[i].group):
        places = list(group)
        if parts[-1] and len(parts[-1]) + len(places) > WIDE:
            parts.append([])
        parts[-1] += places
    return [_cut(table, places) for places in parts]


def _cut(table: Table, places: list[int]) -> Table:
    best = {(row, places.index(i)) for row, i in table.best if i in places}
    rows = [[row[i] for i in places] for row in table.rows]
    return replace(table, columns=[table.columns[i] for i in places], rows=rows, best=best)


def _table(name: str, title: str, found: list[Setting], columns: list[Column], summed_up: str) -> Table:
    """summed_up: the data whose columns are followed by Δm and mean rank, or ""."""
    by_column = [[spread(setting.numbers(column.key)) for setting in found] for column in columns]
    kept = [i for i, cells in enumerate(by_column) if any(cell.n or cell.other is not None for cell in cells)]
    columns, by_column = [columns[i] for i in kept], [by_column[i] for i in kept]
    if summed_up:
        deltas = [spread(deltas_of(setting, found, columns)) for setting in found]
        for column, cells in ((delta_column(), deltas), (rank_column(), ranks(by_column, found, columns))):
            if any(cell.n for cell in cells):
                columns, by_column = [*columns, column], [*by_column, cells]
    best = {
        (row, i)
        for i, (column, cells) in enumerate(zip(columns, by_column, strict=True))
        for row in leaders(cells, column.direction)
    }
    rows = [[cells[row] for cells in by_column] for row in range(len(found))]
    return Table(name, title, columns, found, rows, best)


def delta_column() -> Column:
    return Column("delta_m_percent", "", "Δm %", "min")


def rank_column() -> Column:
    return Column("mean_rank", "", "mean rank", "min")


def deltas_of(setting: Setting, found: list[Setting], columns: list[Column]) -> list[float]:
    """Δm of each run of `setting`, against the mean of the single-task baselines with the same other values.

    Empty where a baseline is missing or at 0, and for the baselines themselves. Columns of no task, or without any
    finite value, are passed over.
    """
    columns = [c for c in columns if c.group and any(spread(other.numbers(c.key)).n for other in found)]
    plain = [s for s in found if s.single and not setting.single]
    same = [s for s in plain if s.values == setting.values] or (plain if len(plain) == 1 else [])
    if not same or not columns:
        return []
    baseline = [spread(same[0].numbers(column.key)).mean for column in columns]
    if not all(math.isfinite(number) and number != 0 for number in baseline):
        return []
    directions = [column.direction for column in columns]
    complete = [run for run in setting.runs if all(math.isfinite(run.values.get(c.key, math.nan)) for c in columns)]
    return [delta_m([run.values[c.key] for c in columns], baseline, directions) for run in complete]


def ranks(by_column: list[list[Spread]], found: list[Setting], columns: list[Column]) -> list[Spread]:
    """The mean rank among the multi-task settings that have every metric; n is the number of metrics. Columns of no
    task, or without any finite value, are passed over.
    """
    nothing = Spread(math.nan, math.nan, 0)
    counting = [i for i, c in enumerate(columns) if c.group and any(cell.n for cell in by_column[i])]
    by_column, columns = [by_column[i] for i in counting], [columns[i] for i in counting]
    ranked = [i for i, s in enumerate(found) if not s.single and all(cells[i].n for cells in by_column)]
    if len(ranked) < 2 or not columns:
        return [nothing] * len(found)
    means = [[cells[i].mean for cells in by_column] for i in ranked]
    numbers = dict(zip(ranked, mean_ranks(means, [c.direction for c in columns]), strict=True))
    return [Spread(numbers[i], math.nan, 1) if i in numbers else nothing for i in range(len(found))]


def decimals(table: Table, place: int) -> int | None:
    """How many decimals show two digits of a column's typical spread, or else four of its values; None: too many."""
    if table.columns[place] == rank_column():
        return 2
    cells = [row[place] for row in table.rows]
    spreads = sorted(cell.std for cell in cells if cell.n > 1 and cell.std > 0)
    sizes = sorted(abs(cell.mean) for cell in cells if cell.n and cell.mean != 0)
    if not sizes:
        return 2
    typical, digits_shown = (spreads[len(spreads) // 2], 2) if spreads else (sizes[-1], 4)
    digits = digits_shown - 1 - math.floor(math.log10(typical))
    digits = max(digits, 1 - math.floor(math.log10(sizes[len(sizes) // 2])))
    return None if digits > 6 or sizes[-1] >= 1e7 else max(digits, 0)


def shown(cell: Spread, digits: int | None) -> tuple[str, str]:
    """The mean and the spread (or "" where there is none) as texts."""
    if cell.other is not None:
        return "NaN" if math.isnan(cell.other) else "∞" if cell.other > 0 else "-∞", ""
    if not cell.n:
        return "–", ""
    form = ".3g" if digits is None else f".{digits}f"
    return format(cell.mean, form), "" if math.isnan(cell.std) else f"± {cell.std:{form}}"


def seeds_shown(setting: Setting) -> str:
    fewest, most = setting.seeds
    return str(fewest) if fewest == most else f"{fewest}–{most}"


def seeds_note(cell: Spread, setting: Setting) -> str:
    """Said in a cell for which fewer seeds have a value than the setting has."""
    return f"(n = {cell.n})" if 0 < cell.n < setting.seeds[0] else ""


def as_markdown(table: Table) -> str:
    return "\n".join(_as_markdown(part) for part in side_by_side(table))


def _as_markdown(table: Table) -> str:
    digits = [decimals(table, i) for i in range(len(table.columns))]
    headings = ["setting", "n", *(in_markdown(f"{c.group} {c.heading}".strip()) for c in table.columns)]
    lines = [headings, ["---", "--:", *("--:" for _ in table.columns)]]
    for r, (setting, row) in enumerate(zip(table.settings, table.rows, strict=True)):
        cells = []
        for i, cell in enumerate(row):
            note = "" if table.columns[i] == rank_column() else seeds_note(cell, setting)
            text = " ".join(part for part in (*shown(cell, digits[i]), note) if part)
            cells.append(f"**{text}**" if (r, i) in table.best else text)
        lines.append([in_markdown(setting.label), seeds_shown(setting), *cells])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def as_csv(table: Table) -> str:
    """One row a setting at full precision: for each column its mean, standard deviation and number of seeds."""
    varied = list(table.settings[0].values) if table.settings else []
    headings = ["setting", "method", *varied]
    for column in table.columns:
        parts = [""] if column == rank_column() else [" mean", " std", " n"]
        headings += [column.key + part for part in parts]
    lines: list[list[object]] = [list(headings)]
    for setting, row in zip(table.settings, table.rows, strict=True):
        line: list[object] = [setting.label, setting.method, *setting.values.values()]
        for column, cell in zip(table.columns, row, strict=True):
            numbers = [number if math.isfinite(number) else "" for number in (cell.mean, cell.std)]
            numbers = numbers if cell.other is None else [cell.other, ""]
            line += numbers[:1] if column == rank_column() else [*numbers, cell.n]
        lines.append(line)
    return csv_text(lines)


def runs_csv(found: list[Setting]) -> str:
    """One row a run at full precision: what it is, its best epoch, and every validation, test and measured value."""
    runs: list[tuple[Setting, FinishedRun]] = [(setting, run) for setting in found for run in setting.runs]
    varied = sorted({key for _, run in runs for key in run.varied} - {"seed", "method"})
    by_size = sorted((run for _, run in runs), key=lambda run: -len(run.values))
    keys = list(dict.fromkeys(key for run in by_size for key in run.values))
    lines: list[list[object]] = [["run", "cluster", "setting", "method", "seed", *varied, "best_epoch", *keys]]
    for setting, run in runs:
        origin = [run.name, run.cluster, setting.label, run.method, run.seed]
        values = [run.values.get(key, "") for key in keys]
        lines.append([*origin, *(run.varied.get(key, "") for key in varied), run.epoch, *values])
    return csv_text(lines)
