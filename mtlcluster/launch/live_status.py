"""Shows runs while they run: a table redrawn in place on a terminal, or a line now and then."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mtlcluster.launch.executors import executor_of
from mtlcluster.launch.run_status import RunStatus
from mtlcluster.launch.status_table import Line, by_sweep, is_active, plain, remark, remarks, shown, summary, table
from mtlcluster.progress import Say
from mtlcluster.terminal import console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NEWS = 30.0  # seconds between two lines about the runs that have not ended
Look = Callable[[], list[RunStatus]]


def print_lines(lines: list[Line]) -> None:
    """Prints lines on a terminal, in colours. The terminal wraps those that are too long."""
    from rich.text import Text

    screen = console(highlight=False)
    for line in lines:
        screen.print(Text.assemble(*shown(line)), soft_wrap=True)


def watch(look: Look, until_ended: bool, unreachable: Callable[[], dict[str, str]]) -> list[RunStatus]:
    """Redraws the table in place.

    Args:
        look: Returns the runs as they are now.
        until_ended: If true, returns when all runs have ended; otherwise only Ctrl-C ends it.
        unreachable: Returns the clusters that could not be asked at the last look, and why.
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


def wait_plainly(look: Look, say: Say, unreachable: Callable[[], dict[str, str]]) -> list[RunStatus]:
    """Waits until all runs have ended, and says a line about each that ended and about clusters that fall silent or are
    back. Now and then it says one about the others. For the arguments see `watch`.
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
            known = {run.run for run in runs if run.state in ("done", "cancelled", "pruned")}  # these had ended before
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
    """An overall bar, the summaries, and a table of the runs. If there is no room for all, of active or failed ones."""
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
