"""Names that a user chose, of whatever characters, in figures, in Markdown and in HTML."""

import html
import re
import unicodedata


def legible(text: str) -> str:
    """`text` in a line, without characters that no font shows: control characters, halves of a pair, and those that
    only say how their neighbours are written, such as in which direction.
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else _instead(c) for c in text)


def _instead(character: str) -> str:
    return "" if unicodedata.category(character) == "Cf" else "\ufffd"


def in_markdown(text: str) -> str:
    """As a table's cell in which nothing is markup. An underscore within a word is none."""
    return re.sub(r"[\\`*\[\]<>|~$&]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])", r"\\\g<0>", legible(text))


def in_html(text: str) -> str:
    return html.escape(legible(text))
