"""Standard input, output and error, whatever they are: a terminal that knows few characters, a pipe whose reader has
left, a full disk, nothing at all.
"""

import codecs
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

NO_OUTPUT = 2
# What stands for a character that the terminal lacks, where Unicode itself knows nothing simpler.
SIMPLER = {"–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "×": "x", "·": "*", "±": "+-"}
SIMPLER |= {"→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "━": "=", "╌": "-", "Σ": "sum", "Δ": "D"}


class OutputLost(Exception):
    """Standard output takes no more: its reader has left, or its disk is full. No OSError, which others make up for."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """What is printed meanwhile is shown as well as the terminal can. Where output is lost the process ends in order,
    as other tools do: by SIGPIPE where the reader has left, else with one message.
    """
    _open_closed()
    sys.stdout, sys.stderr = _tolerant(sys.stdout, _Output), _tolerant(sys.stderr, _Errors)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        _to_nowhere(1)  # or the interpreter would try once more, and say that it could not
        if isinstance(lost.__cause__, BrokenPipeError):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
        print(f"mtlcluster: standard output: {lost}", file=sys.stderr)
        sys.exit(NO_OUTPUT)


def echo(text: object = "") -> None:
    """A line on standard output, now."""
    print(text, flush=True)


def say(text: object, err: bool = False) -> None:
    """As `echo`, in the midst of work that must not be left half done because nobody listens any more."""
    with suppress(OutputLost):
        print(text, file=sys.stderr if err else sys.stdout, flush=True)


def console(**options: Any) -> "Console":
    """rich's, which takes every name as it stands: `[b]` and `:key:` mean nothing more."""
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)


def breadth(text: str) -> int:
    """How many columns the text takes: a Chinese character, say, as many as two Latin ones."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") - bool(unicodedata.combining(c)) for c in text)


def can_redraw() -> bool:
    """Whether standard output is a terminal on which lines can be drawn over."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLost(error.strerror) from error


class _Errors(io.FileIO):
    def write(self, data: Any) -> int:
        with suppress(OSError):  # there is nowhere left to say so
            return super().write(data)
        return len(data)


def _tolerant(stream: Any, kind: type[io.FileIO]) -> Any:
    """The stream anew, of a file of that kind, and without characters that it could not encode."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # always: what is lost stays in it, so that the end of the process knows
        encoding=stream.encoding,
        errors="simpler",
        line_buffering=stream.line_buffering or stream.write_through,  # the latter is `python -u`
    )


def _open_closed() -> None:
    """Opens what was closed on nothing: else the next file that is opened would be taken for it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _to_nowhere(number)
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _simpler(error: UnicodeError) -> tuple[str, int]:
    """For codecs: what the terminal lacks, in simpler characters, or as question marks."""
    assert isinstance(error, UnicodeEncodeError)
    shown = (_ascii(character) for character in error.object[error.start : error.end])
    return "".join(shown), error.end


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", SIMPLER.get(character, character)).encode("ascii", "ignore").decode()
    return plain if plain and not plain.isspace() else " " if character.isspace() else "?"


codecs.register_error("simpler", _simpler)
