"""Runs as text (a table that fits the terminal, a summary, the next commands) and as JSON.

A line is a list of pieces. Each piece is a text and a style of rich, so that a pipe gets the same text without rich.
"""

import json
import math
import shlex
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mtlcluster import printable
from mtlcluster.launch.executors import EXECUTORS
from mtlcluster.launch.run_status import TO_RETRY, RunStatus, count
from mtlcluster.sweep.series import TOTAL_LOSS, VALIDATION_MEAN_LOSS
from mtlcluster.sweep.status import UNDEFINED, State
from mtlcluster.terminal import breadth

Piece = tuple[str, str]
Line = list[Piece]

STYLES: dict[State, str] = {
    "running": "cyan",
    "queued": "dim",
    "done": "green",
    "failed": "red",
    "lost": "magenta",
    "cancelled": "yellow",
    "pruned": "blue",
}
MANY = 40  # with more runs than this, only active and failed ones are shown,
MOST = 100  # and at most so many of these
GAP = "  "
INDENT = "    "
BAR = 8  # characters of a progress bar
WIDE = 120  # characters; a terminal of this width has room for longer titles


@dataclass(eq=False)
class Column:
    title: str
    cells: list[Piece]
    rank: int  # a narrow terminal shows only the columns of the highest ranks
    right: bool = False

    @cached_property
    def width(self) -> int:
        return max(breadth(self.title), *(breadth(text) for text, _ in self.cells))

    def cell(self, row: int) -> Piece:
        text, style = self.cells[row]
        return self._padded(text), style

    def head(self) -> Piece:
        return self._padded(self.title), "bold"

    def _padded(self, text: str) -> str:
        blanks = " " * (self.width - breadth(text))
        return blanks + text if self.right else text + blanks


def as_json(runs: Iterable[RunStatus], unreachable: dict[str, str] | None = None) -> str:
    """The output of `status --json`, a run on each line; see docs/status-json.md. Values that are not finite are null.

    unreachable: the clusters that could not be asked, and why.
    """
    lines = ",\n".join(json.dumps(_finite(vars(run)), allow_nan=False) for run in runs)
    more = f',\n"unreachable": {json.dumps(unreachable)}' if unreachable else ""
    return f'{{"runs": [\n{lines}\n]{more}}}'


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def overview(
    runs: list[RunStatus],
    width: int | None,
    everything: bool,
    options: str = "",
    unreachable: dict[str, str] | None = None,
) -> Iterator[Line]:
    """The output of `status`: for each sweep its table, its summary and the next commands.

    Args:
        runs: The runs.
        width: The width of the terminal, in characters; None if there is no terminal.
        everything: If true, shows every run, however many there are.
        options: Options that the next commands need, such as ` --runs DIR`.
        unreachable: The clusters that could not be asked, and why.
    """
    few = everything or len(runs) <= MANY
    for i, (sweep, members) in enumerate(by_sweep(runs).items()):
        if i:
            yield []
        chosen = members if few else [run for run in members if is_active(run)][:MOST]
        if chosen:
            yield from table(chosen, width)
            yield []
        yield from summary(sweep, members, len(members) - len(chosen))
        yield from advice(sweep, members, options)
    yield from remarks(runs, unreachable or {})


def remarks(runs: list[RunStatus], unreachable: dict[str, str]) -> Iterator[Line]:
    """Lines about what could not be asked, and about the age of what is shown instead."""
    if unverified := [run for run in runs if not run.verified and run.cluster not in unreachable]:
        reason = unverified[0].scheduler or "no answer"
        yield []
        yield [(f"?  the last known state: the scheduler could not be asked ({reason})", "yellow")]
    for cluster, why in unreachable.items():
        ages = [run.age for run in runs if run.cluster == cluster and run.age]
        old = f"; its runs are shown as they were {duration(max(ages))} ago" if ages else ""
        yield []
        yield [(f"?  {cluster} can't be reached{old}: {why}", "yellow")]


def by_sweep(runs: list[RunStatus]) -> dict[str, list[RunStatus]]:
    sweeps: dict[str, list[RunStatus]] = {}
    for run in runs:
        sweeps.setdefault(run.sweep, []).append(run)
    return sweeps


def plain(line: Line) -> str:
    return "".join(text for text, _ in shown(line)).rstrip()


def shown(line: Line) -> Line:
    """The line without control characters: names and hosts come from files."""
    return [(printable.line(text), style) for text, style in line]


def is_active(run: RunStatus) -> bool:
    """True if this run is shown even if there is no room for every run."""
    return run.state in ("running", "failed", "lost") or run.cancelling


def summary(sweep: str, runs: list[RunStatus], hidden: int = 0) -> Iterator[Line]:
    """`NAME: 3 running, 8 done, 1 failed of 12`."""
    counts = count(runs)
    line: Line = [(f"{sweep}: ", "bold")]
    for state, style in STYLES.items():
        if counts[state]:
            line += [(f"{counts[state]:,} {state}", style), (", ", "")]
    yield [*line[:-1], (f" of {len(runs):,}", ""), (f"; {hidden:,} not shown (--all)" if hidden else "", "dim")]


def advice(sweep: str, runs: list[RunStatus], options: str) -> Iterator[Line]:
    """The next commands, quoted for a shell: a folder from somebody else may have any name."""
    sweep = shlex.quote(sweep)
    if any(run.state == "queued" and not run.job_id for run in runs):
        yield _next("some were never submitted; to complete them", f"mtlcluster submit GRID{options}")
    failed = [run.run for run in runs if run.state in ("failed", "lost")]
    if failed:
        one = shlex.quote(failed[0]) if len(failed) == 1 else "RUN"
        yield _next("what went wrong", f"mtlcluster logs {sweep} {one}{options}")
    if any(run.state in TO_RETRY for run in runs):
        yield _next("once more, from the last checkpoint if there is one", f"mtlcluster retry {sweep}{options}")
    if all(run.ended for run in runs) and any(run.state == "done" for run in runs):
        yield _next("figures and tables", f"mtlcluster collect {sweep}{options}")


def _next(what: str, command: str) -> Line:
    return [(f"  {what}: ", "dim"), (command, "")]


def table(runs: list[RunStatus], width: int | None) -> Iterator[Line]:
    """One line for each run. A second line below it has its error or its notes, if any.

    A narrow terminal shows fewer columns. If the names leave no room for the rest, they have lines of their own.
    """
    name, *rest = [column for column in _columns(runs, width) if any(text for text, _ in column.cells)]
    needed = name.width + sum(len(GAP) + column.width for column in rest if column.title in ("state", "epoch"))
    apart = width is not None and needed > width
    room = math.inf if width is None else width - (len(INDENT) if apart else name.width + len(GAP))
    rest = _fitting(rest, room)

    def lines(first: Piece, others: list[Piece]) -> Iterator[Line]:
        spaced = [piece for other in others for piece in ((GAP, ""), other)]
        if apart:
            yield [(first[0].rstrip(), first[1])]
            yield [(INDENT, ""), *spaced[1:]]
        else:
            yield [first, *spaced]

    yield from lines(name.head(), [column.head() for column in rest])
    for row, run in enumerate(runs):
        yield from lines(name.cell(row), [column.cell(row) for column in rest])
        for line in _wrapped(remark(run), width):
            yield [(line, STYLES[run.state])]


def _fitting(columns: list[Column], room: float) -> list[Column]:
    """The columns that fit into `room` characters; those of high rank come first."""
    kept: list[Column] = []
    for column in sorted(columns, key=lambda column: -column.rank):
        if sum(len(GAP) + other.width for other in kept) + column.width <= room or not kept:
            kept.append(column)
    return [column for column in columns if column in kept]


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [INDENT + text] if text else []
    return textwrap.wrap(
        text, width, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )


def _columns(runs: list[RunStatus], width: int | None) -> list[Column]:
    def column(title: str, texts: Iterable[str], rank: int, right: bool = True) -> Column:
        return Column(title, [(text, "") for text in texts], rank, right)

    values = {str(run.best.get("value")) for run in runs if run.best}
    wide = width is None or width >= WIDE
    of_what = f" {values.pop()}" if wide and len(values) == 1 else ""
    named = bool({run.cluster for run in runs} - {"", *EXECUTORS})  # some are of a cluster file
    return [
        column("run", [run.run for run in runs], 9, right=False),
        Column("state", [(_state(run), STYLES[run.state]) for run in runs], 8),
        Column("", [(_bar(run) if width else "", STYLES[run.state]) for run in runs], 5),
        column("epoch", [f"{run.epoch}/{run.epochs}" if run.epochs else "" for run in runs], 7),
        column("left", [duration(run.seconds_left) for run in runs], 6),
        column("train loss" if wide else "train", [_number(run.latest.get(TOTAL_LOSS)) for run in runs], 0),
        column("val. loss" if wide else "val.", [_number(run.latest.get(VALIDATION_MEAN_LOSS)) for run in runs], 3),
        column(f"best{of_what}", [_number(run.best.get("number")) if run.best else "" for run in runs], 4),
        column("took", [duration(run.elapsed or None) for run in runs], 2),
        column("cluster", [run.cluster if named else "" for run in runs], 6, right=False),
        column("where", [_where(run, not named) for run in runs], 1, right=False),
    ]


def _state(run: RunStatus) -> str:
    doubt = "?" if not run.verified else "!" if run.silent else ""
    return ("cancelling" if run.cancelling else run.state) + doubt


def _bar(run: RunStatus) -> str:
    if run.state == "queued" and not run.step:
        return ""
    filled = round(run.share * BAR)
    return "━" * filled + "╌" * (BAR - filled)


def _where(run: RunStatus, with_cluster: bool) -> str:
    cluster = run.cluster if with_cluster else ""
    if run.state == "queued":
        _, _, reason = run.scheduler.partition(" ")  # PENDING (Priority)
        return f"{cluster} {reason}".strip() if run.verified else cluster
    return f"{cluster} {run.host}".strip()


def remark(run: RunStatus) -> str:
    """The remark behind a run's columns; for a failed run, its error."""
    if run.state == "failed":
        return run.error or "failed without an error message; see its log"
    if run.error:
        return run.error
    if run.state == "lost":
        said = f" ({run.scheduler})" if run.scheduler else ""
        return f"its job is gone{said}, but the run had not ended"
    notes = [note for note in run.notes if run.state != "done" or UNDEFINED in note]  # done: only missing results
    return notes[-1] if notes else ""


def _number(value: Any) -> str:
    return f"{value:#.4g}" if isinstance(value, int | float) else ""


def duration(seconds: float | None) -> str:
    """`48s`, `3m12s`, `1h05m`, `2d03h`."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
