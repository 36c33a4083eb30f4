"""The one error that is the user's to mend: shown as a single message, exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a call or a file, worded for the person who made it. The command line prints it and exits with 2."""


class SchedulerError(Exception):
    """Slurm refused or did not answer; the message quotes the command and what it said. Exit code 1."""


class ClusterError(Exception):
    """A remote cluster can't be reached, or lacks what is asked of it; the message says what to do. Exit code 1."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'epochs'?' where one of `known` is close to `name`, else the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f" (known: {', '.join(known)})" if known else ""
