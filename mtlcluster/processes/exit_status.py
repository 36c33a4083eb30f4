"""Exit statuses of a process that trains a run (a rank), by which the worker knows how it ended."""

DONE, FAILED, STOPPED = 0, 1, 3  # stopped: it has saved a checkpoint and ended, as it was asked to
