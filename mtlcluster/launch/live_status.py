"""Runs while they run: redrawn in place on a terminal, or a plain line now and then."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mtlcluster.launch.executors import executor_of
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.launch.status_table import Line, by_sweep, is_active, plain, remark, remarks, shown, summary, table
from mtlcluster.terminal import console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NEWS = 30.0  # seconds between two plain lines about the same state of affairs
Look = Callable[[], list[RunStatus]]


def print_lines(lines: list[Line]) -> None:
    """On a terminal in colours; names and errors that are too long are left to it to wrap."""
    from rich.text import Text

    screen = console(highlight=False)
    for line in lines:
        screen.print(Text.assemble(*shown(line)), soft_wrap=True)


def watch(look: Look, until_ended: bool, unreachable: Callable[[], dict[str, str]]) -> list[RunStatus]:
    """Redraws the table in place until all runs have ended, or, where that is not asked for, until Ctrl-C.

    unreachable: the clusters that could not be asked at the last look, and why.
    """
    from rich.live import Live

    screen = console(highlight=False)
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            runs = look()
            live.update(_frame(runs, unreachable(), screen), refresh=True)
            if until_ended and runs and all(run.ended for run in runs):
                return runs
            time.sleep(pause(runs, time.monotonic() - began))


def wait_plainly(
    look: Look, say: Callable[[str], object], unreachable: Callable[[], dict[str, str]]
) -> list[RunStatus]:
    """Until all runs have ended: a line for each that ended, one where a cluster falls silent or is back, and now and
    then one about the others. See watch.
    """
    known: set[str] | None = None
    last, said_at, silent = "", -NEWS, dict[str, str]()
    while True:
        began = time.monotonic()
        runs = look()
        before, silent = silent, dict(unreachable())
        for cluster in silent.keys() - before.keys():
            say(f"{cluster} can't be reached; retrying: {silent[cluster]}")
        for cluster in before.keys() - silent.keys():
            say(f"{cluster} can be reached again")
        if known is None:
            known = {run.run for run in runs if run.state in ("done", "cancelled")}  # those are no news
        for run in runs:
            if run.ended and run.run not in known:
                known.add(run.run)
                say(": ".join(part for part in (run.state, run.run, remark(run)) if part))
        news = _news(runs)
        over = bool(runs) and all(run.ended for run in runs)
        if news != last and (began - said_at >= NEWS or over):
            say(news)
            last, said_at = news, began
        if over:
            return runs
        time.sleep(pause(runs, time.monotonic() - began))


def _news(runs: list[RunStatus]) -> str:
    heads = [plain(line) for sweep in by_sweep(runs).items() for line in summary(*sweep)]
    running = [f"{run.run} epoch {run.epoch}/{run.epochs}" for run in runs if run.state == "running"]
    return "; ".join(heads + running[:3])


def pause(runs: list[RunStatus], took: float) -> float:
    """Seconds until the next look. A controller is asked less often, above all a busy one."""
    asks_controller = any(not run.ended and run.job_id and executor_of(run.job_id).has_queue for run in runs)
    return max(5.0 if asks_controller else 1.0, 10 * took)


def _frame(runs: list[RunStatus], unreachable: dict[str, str], console: "Console") -> "RenderableType":
    """An overall bar, the summaries, and the runs that there is room for: first those that are active or failed."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    overall = Table.grid(padding=(0, 2))
    share, width = sum(1.0 if run.ended else run.share for run in runs), max(1, min(40, console.width - 10))
    overall.add_row("overall", ProgressBar(max(1, len(runs)), share, width))
    sweeps = by_sweep(runs)
    lines = [line for sweep in sweeps.items() for line in summary(*sweep)]
    room = max(3, console.height - len(lines) - 5)
    chosen = runs if len(runs) <= room else [run for run in runs if is_active(run)][:room]
    for sweep, members in by_sweep(chosen).items():
        lines += [[], *([[(sweep, "bold")]] if len(sweeps) > 1 else []), *table(members, console.width)]
    lines += remarks(runs, unreachable)
    return Group(overall, *(Text.assemble(*shown(line), overflow="fold") for line in lines))
