"""Names that a user chose, of whatever characters, in Markdown and in HTML."""

import html
import re

from mtlcluster import printable


def in_markdown(text: str) -> str:
    """As a table's cell in which nothing is markup. An underscore within a word is none."""
    return re.sub(r"[\\`*\[\]<>|~$&]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])", r"\\\g<0>", printable.line(text))


def in_html(text: str) -> str:
    return html.escape(printable.line(text))
