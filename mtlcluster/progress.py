"""A progress bar for what may take long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0                  # seconds before a progress bar is worth showing


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], object]]:
    """Gives what is to be called after each of `total` parts. A bar on stderr appears once it takes longer."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=total)
    start = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        if time.monotonic() - start > PATIENCE and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
