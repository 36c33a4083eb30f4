"""matplotlib as it comes: figures look the same whatever the user has set for other ones."""

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """Imports it, and keeps its remarks about fonts and caches from the user meanwhile.

    It reads its settings as it is imported, first of all those of the present folder; any of them may be beyond
    reading. So that folder is, for this moment, the one of its own settings.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    epoch = os.environ.pop("SOURCE_DATE_EPOCH", None)  # a packager's, of any form; figures bear no date
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if "matplotlib" not in sys.modules:
                _import()
            yield
    finally:
        logger.setLevel(level)
        if epoch is not None:
            os.environ["SOURCE_DATE_EPOCH"] = epoch


def _import() -> None:
    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    here = os.open(".", os.O_PATH)  # which may have been removed, or must not be read
    backend = os.environ.pop("MPLBACKEND", None)  # a notebook's, which need not be here
    try:
        os.chdir(Path(found.origin).parent / "mpl-data")
        importlib.import_module("matplotlib")
    finally:
        os.fchdir(here)
        os.close(here)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
