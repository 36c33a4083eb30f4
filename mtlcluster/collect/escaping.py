"""Escapes names that a user chose, for Markdown and for HTML."""

import html
import re

from mtlcluster import printable


def in_markdown(text: str) -> str:
    """`text` as the cell of a table, without markup. An underscore inside a word is no markup."""
    return re.sub(r"[\\`*\[\]<>|~$&]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])", r"\\\g<0>", printable.line(text))


def in_html(text: str) -> str:
    return html.escape(printable.line(text))
