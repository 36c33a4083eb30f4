"""Imports matplotlib with its own settings: figures look the same, whatever the user has set for other figures."""

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
    """Imports matplotlib. Hides its warnings about fonts and caches in the `with` block.

    The import reads settings from the current folder first, and fails if they can't be read. So the current folder is
    that of matplotlib's own settings during the import.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    epoch = os.environ.pop("SOURCE_DATE_EPOCH", None)  # a packager's variable, of any form; figures have no date
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
    here = os.open(".", os.O_PATH)  # an open folder, since its path may be gone or unreadable
    backend = os.environ.pop("MPLBACKEND", None)  # a notebook's backend may be missing here
    try:
        os.chdir(Path(found.origin).parent / "mpl-data")
        importlib.import_module("matplotlib")
    finally:
        os.fchdir(here)
        os.close(here)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
