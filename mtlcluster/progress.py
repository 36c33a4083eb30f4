"""Progress bars and lines for work that may take long."""

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mtlcluster.terminal import console

BAR_AFTER = 2.0  # seconds of work before a progress bar appears
LINE_EVERY = 30.0  # seconds between two lines where there is no terminal for a bar
T = TypeVar("T")
Say = Callable[[str], object]  # shows one line to the user


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], object]]:
    """Yields a callback; call it after each of `total` items. A bar appears on standard error if it takes long."""
    from rich.progress import Progress

    screen = console(stderr=True)
    bar = Progress(console=screen, transient=True, disable=not screen.is_interactive)
    task = bar.add_task(description, total=total)
    start = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        if time.monotonic() - start > BAR_AFTER and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def followed(what: str, items: Collection[T], say: Say) -> Iterator[T]:
    """Yields `items`. Shows a bar if they take long, or a line now and then if there is no terminal."""
    with progress(what, len(items)) as advance:
        told_at = time.monotonic()
        for number, item in enumerate(items):
            yield item
            advance()
            if not sys.stderr.isatty() and time.monotonic() - told_at > LINE_EVERY:
                say(f"{what}: {number + 1:,} of {len(items):,} files")
                told_at = time.monotonic()
