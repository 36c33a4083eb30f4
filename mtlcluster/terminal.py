"""Standard input, output and error, also when they are a terminal with few characters, a pipe that nobody reads any
more, a file on a full disk, or closed.
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
# Replacements for characters that the terminal lacks and that Unicode can't decompose into simpler ones.
SIMPLER = {"–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "×": "x", "·": "*", "±": "+-"}
SIMPLER |= {"→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "━": "=", "╌": "-", "Σ": "sum", "Δ": "D"}


class OutputLost(Exception):
    """Standard output takes no more: its reader has left, or its disk is full.

    Not an OSError, so that no handler of another file's error catches it.
    """


@contextmanager
def standard_streams() -> Iterator[None]:
    """Inside, whatever is printed is shown as well as the terminal can.

    If output is lost, the process ends as other tools do: by SIGPIPE if the reader has left, else with one message.
    """
    _open_closed()
    sys.stdout, sys.stderr = _tolerant(sys.stdout, _Output), _tolerant(sys.stderr, _Errors)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        _to_nowhere(1)  # else Python flushes once more at exit, and prints that it failed
        if isinstance(lost.__cause__, BrokenPipeError):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
        print(f"mtlcluster: standard output: {lost}", file=sys.stderr)
        sys.exit(NO_OUTPUT)


def echo(text: object = "") -> None:
    """Prints a line on standard output at once. Raises OutputLost."""
    print(text, flush=True)


def say(text: object, err: bool = False) -> None:
    """Prints a line at once. Lost output is ignored: the caller's work must not stop half-way because nobody reads."""
    with suppress(OutputLost):
        print(text, file=sys.stderr if err else sys.stdout, flush=True)


def console(**options: Any) -> "Console":
    """A rich console that prints text unchanged: `[b]` and `:key:` have no meaning."""
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)


def breadth(text: str) -> int:
    """The number of terminal columns of a text. A Chinese character, for example, takes two."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") - bool(unicodedata.combining(c)) for c in text)


def can_redraw() -> bool:
    """True if standard output is a terminal on which lines can be overwritten."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLost(error.strerror) from error


class _Errors(io.FileIO):
    def write(self, data: Any) -> int:
        with suppress(OSError):  # there is nowhere left to report it
            return super().write(data)
        return len(data)


def _tolerant(stream: Any, kind: type[io.FileIO]) -> Any:
    """A new stream on the same file, of class `kind`. Replaces characters that its encoding lacks."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # always: lost output stays in it, so that the last flush notices
        encoding=stream.encoding,
        errors="simpler",
        line_buffering=stream.line_buffering or stream.write_through,  # the latter is `python -u`
    )


def _open_closed() -> None:
    """Opens closed standard streams on /dev/null: else the next file that is opened would get their number."""
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
    """Error handler of codecs: replaces what the terminal lacks with simpler characters or question marks."""
    assert isinstance(error, UnicodeEncodeError)
    shown = (_ascii(character) for character in error.object[error.start : error.end])
    return "".join(shown), error.end


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", SIMPLER.get(character, character)).encode("ascii", "ignore").decode()
    return plain if plain and not plain.isspace() else " " if character.isspace() else "?"


codecs.register_error("simpler", _simpler)
