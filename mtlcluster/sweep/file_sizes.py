"""Sizes and times of the runs' files. They show which files are new."""

import os
from collections.abc import Iterable

from mtlcluster.sweep.folder import Sweep

SizeAndTime = list[int]  # of a file: bytes, and Unix nanoseconds of its last change; a list, as JSON gives it back
OfRuns = dict[str, list[SizeAndTime | None]]  # by run: of several of its files, None if missing


def sizes_and_times(sweep: Sweep, names: Iterable[str]) -> OfRuns:
    """Sizes and times of files of every run: they show which files are new.

    names: the files, relative to a run's folder.
    """
    return {run.name: [size_and_time(f"{run.folder}/{name}") for name in names] for run in sweep.runs()}


def size_and_time(file: str) -> SizeAndTime | None:
    """The size and time of a file; None if it is missing, or a link to nothing."""
    try:
        about = os.stat(file)  # noqa: PTH116 - faster than a Path for each of thousands
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]
