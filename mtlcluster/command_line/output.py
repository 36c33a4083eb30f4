"""Printing on standard output: in colours and at its width on a terminal, else as plain lines."""

import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtlcluster import printable
from mtlcluster.terminal import say

if TYPE_CHECKING:
    from mtlcluster.launch.status_table import Line


def print_lines(lines: "Iterable[Line]") -> None:
    from mtlcluster.launch import live_status, status_table

    if sys.stdout.isatty():
        live_status.print_lines(list(lines))
    else:
        for line in lines:
            say(status_table.plain(line))


def write(text: str) -> None:
    """Writes text as it is, such as a part of a log, without a line break of our own."""
    sys.stdout.write(printable.text(text))
    sys.stdout.flush()


def terminal_width() -> int | None:
    """Columns of the terminal; None if standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def counted_runs(count: int) -> str:
    """Such as "1 run" or "1,000 runs"."""
    return f"{count:,} run" if count == 1 else f"{count:,} runs"
