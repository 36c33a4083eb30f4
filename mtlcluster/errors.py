"""What goes wrong in a way that is told in one message; what is the user's to mend ends with exit code 2."""

import difflib
import functools
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mtlcluster import printable


class UserError(Exception):
    """A mistake in a call or a file, worded for the person who made it. The command line prints it and exits with 2."""


class SchedulerError(Exception):
    """Slurm refused or did not answer; the message quotes the command and what it said. Exit code 1."""


class ClusterError(Exception):
    """A remote cluster can't be reached, or lacks what is asked of it; the message says what to do. Exit code 1."""


class ClusterRefusal(ClusterError, UserError):
    """A remote cluster found a mistake in what it was asked to do. Exit code 2."""


def together(errors: Sequence[ClusterError], then: str = "") -> ClusterError:
    """What several clusters have said as one error, `then` after it; the user's to mend where each of them is."""
    kind = ClusterRefusal if all(isinstance(error, ClusterRefusal) for error in errors) else ClusterError
    return kind("; ".join(map(str, errors)) + then)


@functools.cache
def tell_once(sentence: str) -> None:
    """Says on standard error, once a process, that something is passed over while the rest goes on."""
    print(f"mtlcluster: {printable.line(sentence)}", file=sys.stderr, flush=True)


def shown(value: Any) -> str:
    """As it stands in a file, and not too long."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'epochs'?' where one of `known` is close to `name`, else the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f" (known: {', '.join(known)})" if known else ""
