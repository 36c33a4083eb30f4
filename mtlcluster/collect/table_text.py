"""Tables as text: numbers with fitting decimals, Markdown and CSV."""

import math
from dataclasses import dataclass

from mtlcluster.collect.escaping import in_markdown
from mtlcluster.collect.read_histories import FinishedRun
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.statistics import Spread
from mtlcluster.collect.tables import Table, side_by_side
from mtlcluster.csv_text import csv_text


def decimals(table: Table, place: int) -> int | None:
    """The number of decimals of a column: two digits of its typical spread, or else four of its values.

    None where that would be too many: three significant digits are shown then.
    """
    if not table.columns[place].over_seeds:
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


@dataclass(frozen=True)
class CellText:
    """A cell as it is shown.

    Attributes:
        mean: The mean, or a sign in its place.
        spread: Such as `± 0.01`; empty where there is none.
        note: The number of seeds with a value, if it is smaller than the setting's number of seeds; else empty.
    """

    mean: str
    spread: str
    note: str


def cell_texts(table: Table) -> list[list[CellText]]:
    """The cells of a table as texts, row by row."""
    digits = [decimals(table, place) for place in range(len(table.columns))]
    return [
        [CellText(*_mean_and_spread(cell, digits[i]), _seeds_note(table, r, i)) for i, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]


def _mean_and_spread(cell: Spread, digits: int | None) -> tuple[str, str]:
    if cell.other is not None:
        return "NaN" if math.isnan(cell.other) else "∞" if cell.other > 0 else "-∞", ""
    if not cell.n:
        return "–", ""
    form = ".3g" if digits is None else f".{digits}f"
    return format(cell.mean, form), "" if math.isnan(cell.std) else f"± {cell.std:{form}}"


def _seeds_note(table: Table, row: int, place: int) -> str:
    cell = table.rows[row][place]
    fewer = table.columns[place].over_seeds and 0 < cell.n < table.settings[row].seeds[0]
    return f"(n = {cell.n})" if fewer else ""


def seeds_shown(setting: Setting) -> str:
    fewest, most = setting.seeds
    return str(fewest) if fewest == most else f"{fewest}–{most}"


def as_markdown(table: Table) -> str:
    return "\n".join(_as_markdown(part) for part in side_by_side(table))


def _as_markdown(table: Table) -> str:
    headings = ["setting", "n", *(in_markdown(f"{c.group} {c.heading}".strip()) for c in table.columns)]
    lines = [headings, ["---", "--:", *("--:" for _ in table.columns)]]
    for setting, row in zip(table.settings, cell_texts(table), strict=True):
        cells = [" ".join(filter(None, (cell.mean, cell.spread, cell.note))) for cell in row]
        lines.append([in_markdown(setting.label), seeds_shown(setting), *cells])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def as_csv(table: Table) -> str:
    """One row a setting at full precision: the mean, standard deviation and number of seeds of each column."""
    varied = list(table.settings[0].values) if table.settings else []
    headings = ["setting", "method", *varied]
    for column in table.columns:
        headings += [column.key + part for part in ([" mean", " std", " n"] if column.over_seeds else [""])]
    lines: list[list[object]] = [list(headings)]
    for setting, row in zip(table.settings, table.rows, strict=True):
        line: list[object] = [setting.label, setting.method, *setting.values.values()]
        for column, cell in zip(table.columns, row, strict=True):
            line += _in_csv(cell) if column.over_seeds else _in_csv(cell)[:1]
        lines.append(line)
    return csv_text(lines)


def _in_csv(cell: Spread) -> list[object]:
    if cell.other is not None:
        return [cell.other, "", cell.n]
    return [*(number if math.isfinite(number) else "" for number in (cell.mean, cell.std)), cell.n]


def runs_csv(settings: list[Setting]) -> str:
    """One row for each run at full precision: its setting and seed, its best epoch, and all its values."""
    runs: list[tuple[Setting, FinishedRun]] = [(setting, run) for setting in settings for run in setting.runs]
    varied = sorted({key for _, run in runs for key in run.varied} - {"seed", "method"})
    by_size = sorted((run for _, run in runs), key=lambda run: -len(run.values))
    keys = list(dict.fromkeys(key for run in by_size for key in run.values))
    lines: list[list[object]] = [["run", "cluster", "setting", "method", "seed", *varied, "best_epoch", *keys]]
    for setting, run in runs:
        origin = [run.name, run.cluster, setting.label, run.method, run.seed]
        values = [run.values.get(key, "") for key in keys]
        lines.append([*origin, *(run.varied.get(key, "") for key in varied), run.epoch, *values])
    return csv_text(lines)
