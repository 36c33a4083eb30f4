"""CSV that is safe to open in a spreadsheet: no text is taken for a formula, and every row is one line."""

import csv
import io
import re
from collections.abc import Iterable

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)
FORMULA = re.compile(r"\s*[=+@＝＋－＠-]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """The rows as CSV. A text that begins like a formula gets an apostrophe before it; numbers stay as they are."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_harmless, row) for row in rows)
    return text.getvalue()


def _harmless(cell: object) -> object:
    if not isinstance(cell, str) or NUMBER.fullmatch(cell):
        return cell
    shown = CONTROL.sub(" ", cell).encode("utf-8", "backslashreplace").decode()  # UTF-8 has no lone surrogates
    return f"'{shown}" if FORMULA.match(shown) else shown
