"""CSV as a spreadsheet may open it: a cell of text is never taken for a formula, and a row is a line."""

import csv
import io
import re
from collections.abc import Iterable

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)
FORMULA = re.compile(r"\s*[=+@＝＋－＠-]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """A text that begins as a formula does gets an apostrophe before it; numbers stay as they are."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_harmless, row) for row in rows)
    return text.getvalue()


def _harmless(cell: object) -> object:
    if not isinstance(cell, str) or NUMBER.fullmatch(cell):
        return cell
    shown = CONTROL.sub(" ", cell).encode("utf-8", "backslashreplace").decode()  # half of a pair is no UTF-8
    return f"'{shown}" if FORMULA.match(shown) else shown
