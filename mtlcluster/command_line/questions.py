"""Questions to the user before something is changed, or before code is run that somebody else may have written."""

import sys
from pathlib import Path

import click
from click.exceptions import Exit

from mtlcluster import printable
from mtlcluster.command_line.exit_codes import FAILED
from mtlcluster.errors import UserError
from mtlcluster.terminal import say


def confirm(question: str, yes: bool) -> None:
    """Asks unless `yes`. Exits if the answer is no. Raises UserError if there is no terminal to ask at."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Say --yes if there is no terminal to ask")
    if not click.confirm(printable.line(question)):
        say("nothing was changed")
        raise Exit(FAILED)


def confirm_code(sweep: Path | None, verb: str, yes: bool) -> None:
    """Asks before `verb` runs code in a sweep's folder that somebody else may have made. None: there is no sweep."""
    if sweep and not yes and (warning := warn_of_stranger(sweep, f"{verb} runs the code in it")):
        confirm(f"{warning}Do you trust who made it?", yes)


def warn_of_stranger(sweep: Path, harm: str) -> str:
    """A warning: somebody else may have made the sweep's folder, and what it can do. "" if the user made it here."""
    from mtlcluster.config import submitted_here

    if submitted_here.is_mine(sweep):
        return ""
    return f"{sweep} was not submitted by you on this machine, and {harm}. "
