"""The main table of the verdict as texts: a row for each method with its chosen setting."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mtlcluster.collect.verdict.result import MethodResult, Verdict, Versus

UNKNOWN = "–"
VALUES_SHOWN = 6  # of a setting; the appendix has all


@dataclass(frozen=True)
class MainRow:
    """One row.

    Attributes:
        name: The method.
        setting: Its chosen setting, such as "trial 7: lr=0.0012"; "" if nothing was chosen.
        cells: The other cells, in the order of `MainTable.headings`.
        bold: True if it is not told apart from the best, where that leaves others out.
        missing: Why it is not compared; else "".
    """

    name: str
    setting: str
    cells: list[str]
    bold: bool
    missing: str


@dataclass(frozen=True)
class MainTable:
    """The main table.

    Attributes:
        headings: Of the cells. The method's column comes before them, the leading metrics' columns come last.
        rows: Single-task training first, then the reference, then by z.
        metrics: How many columns are leading metrics.
    """

    headings: list[str]
    rows: list[MainRow]
    metrics: int

    def parts(self, beside: int, across: int) -> list[list[int]]:
        """The columns of each of the tables to show: a single one, or first the others, then the leading metrics.

        Args:
            beside: The most leading metrics that have room beside the other columns.
            across: The most columns of a table of leading metrics.
        """
        every = list(range(len(self.headings)))
        first = len(every) - self.metrics
        if self.metrics <= beside:
            return [every]
        return [every[:first], *(every[i : i + across] for i in range(first, len(every), across))]


def main_table(verdict: Verdict) -> MainTable:
    """The main table of a verdict."""
    metrics = list(dict.fromkeys(name for method in verdict.methods for name in method.leading))
    compared = any(method.versus_reference for method in verdict.methods)
    headings = ["z"]
    if compared:
        headings += [f"difference from {verdict.reference}", "95 % interval", "compared", "P(better)"]
    headings += ["trials", "fresh seeds" if verdict.fresh_seeds else "seeds", "backwards", *metrics]
    digits = {name: _digits([m.leading[name] for m in verdict.methods if name in m.leading]) for name in metrics}
    decimals = points_decimals(method.z for method in verdict.methods)
    rows = []
    for method in verdict.methods:
        cells = [signed(method.z, decimals)]
        if compared:
            cells += _versus(method.versus_reference, decimals)
        cells += [f"{method.trials}", f"{method.n}", f"{method.backwards:,}"]
        cells += [_spread(method.leading.get(name), digits[name]) for name in metrics]
        bold = verdict.strict and method.name in verdict.best_group
        rows.append(MainRow(method.name, _setting(method), cells, bold, method.missing))
    return MainTable(headings, rows, len(metrics))


def shown_values(values: dict[str, Any]) -> str:
    """Such as "lr=0.0012 alpha=1.5": the last part of each key, and its value. "left: lr=0.0012" keeps its task."""
    between = "; " if any(": " in key for key in values) else " "
    return between.join(f"{_short(key)}={_plain(value)}" for key, value in values.items())


def points_decimals(points: Iterable[float]) -> int:
    """The number of decimals of points: one, or two where all are small."""
    return 1 if max((abs(one) for one in points if math.isfinite(one)), default=0) >= 2 else 2


def signed(number: float, decimals: int) -> str:
    """Such as "+1.2"; a zero has no sign."""
    if not math.isfinite(number):
        return UNKNOWN
    text = f"{number:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def interval(low: float, high: float, decimals: int) -> str:
    """Such as "-0.3 to +1.2"."""
    return f"{signed(low, decimals)} to {signed(high, decimals)}" if math.isfinite(low) else UNKNOWN


def _short(key: str) -> str:
    task, colon, option = key.rpartition(": ")
    return task + colon + option.rpartition(".")[2]


def _setting(method: MethodResult) -> str:
    if len(method.values) > VALUES_SHOWN:
        whose = "each task's" if method.single else "its"
        return f"{f'{whose} setting' if method.chosen is None else f'trial {method.chosen}'}: see below"
    values = shown_values(method.values)
    return " ".join(filter(None, ["" if method.chosen is None else f"trial {method.chosen}:", values])).rstrip(":")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}:{_plain(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def _versus(versus: Versus | None, decimals: int) -> list[str]:
    if versus is None:
        return [UNKNOWN, "", "", ""]
    p_better = f"{versus.p_better:.2f}" if math.isfinite(versus.p_better) else UNKNOWN
    return [signed(versus.difference, decimals), interval(versus.low, versus.high, decimals), versus.words, p_better]


def _digits(cells: list[tuple[float, float]]) -> int:
    """Decimals: two digits of the typical standard deviation; without one, four digits of the largest value."""
    spreads = sorted(sd for _, sd in cells if math.isfinite(sd) and sd > 0)
    size = max((abs(mean) for mean, _ in cells if math.isfinite(mean)), default=0.0)
    number, shown = (spreads[len(spreads) // 2], 2) if spreads else (size, 4)
    return max(0, min(6, shown - 1 - math.floor(math.log10(number)))) if number > 0 else 2


def _spread(cell: tuple[float, float] | None, digits: int) -> str:
    if cell is None or not math.isfinite(cell[0]):
        return UNKNOWN
    mean, sd = cell
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if math.isfinite(sd) else "")
