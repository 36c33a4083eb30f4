"""Exceptions shown to the user as one message. UserError exits with 2, the others with 1.

Also the words that messages share: a value as a file has it, and the nearest right name.
"""

import functools
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mtlcluster import printable

WORDS = {None: "null", True: "true", False: "false"}  # as YAML and JSON have them


class UserError(Exception):
    """A mistake in a call or in a file, worded for the person who made it. Exit code 2."""


class SchedulerError(Exception):
    """Slurm refused or did not answer. The message quotes the command and its answer. Exit code 1."""


class ClusterError(Exception):
    """A remote cluster can't be reached or lacks something. The message says what to do. Exit code 1."""


class ClusterRefusal(ClusterError, UserError):
    """A remote cluster found a mistake in what it was asked to do. Exit code 2."""


def together(errors: Sequence[ClusterError], then: str = "") -> ClusterError:
    """One error for the errors of several clusters, ending with `then`. A ClusterRefusal if all of them are."""
    kind = ClusterRefusal if all(isinstance(error, ClusterRefusal) for error in errors) else ClusterError
    return kind("; ".join(map(str, errors)) + then)


@functools.cache
def tell_once(sentence: str) -> None:
    """Prints a warning on standard error, once per process: something is skipped, the rest goes on."""
    print(f"mtlcluster: {printable.line(sentence)}", file=sys.stderr, flush=True)


def shown(value: Any) -> str:
    """The value as a file has it, cut to 60 characters."""
    text = WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    Returns:
        "; did you mean 'epochs'?" if one of `known` is similar to `name`, else " (known: …)", or "" if none is known.
    """
    import difflib  # slow, and needed in messages alone

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f" (known: {', '.join(known)})" if known else ""
