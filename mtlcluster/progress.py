"""Progress of what may take long, and lines for the user."""

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mtlcluster.terminal import console

WORTH_SHOWING = 2.0  # seconds; what is shorter needs no progress
NEWS = 30.0  # seconds between two lines if there is no terminal for a bar
T = TypeVar("T")
Say = Callable[[str], object]  # gets a line for the user


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], object]]:
    """Yields a callback; call it after each of `total` items. A bar on stderr appears once it takes longer."""
    from rich.progress import Progress

    screen = console(stderr=True)
    bar = Progress(console=screen, transient=True, disable=not screen.is_interactive)
    task = bar.add_task(description, total=total)
    start = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        if time.monotonic() - start > WORTH_SHOWING and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def followed(what: str, items: Collection[T], say: Say) -> Iterator[T]:
    """Yields the items, with a bar if they take long; without a terminal, with a line now and then."""
    with progress(what, len(items)) as advance:
        told_at = time.monotonic()
        for number, item in enumerate(items):
            yield item
            advance()
            if not sys.stderr.isatty() and time.monotonic() - told_at > NEWS:
                say(f"{what}: {number + 1:,} of {len(items):,} files")
                told_at = time.monotonic()
