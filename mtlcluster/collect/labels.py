"""Labels of figures: long names in little room, still different where the names differ."""

import textwrap
from collections.abc import Sequence
from itertools import takewhile, zip_longest

from mtlcluster import printable
from mtlcluster.terminal import breadth


def wrapped(text: str, room: int, lines: int = 2) -> str:
    """`text` in at most `lines` lines of `room` characters.

    A text that is too long loses its middle: names often differ at their ends.
    """
    text = printable.line(text)
    room = max(1, room * len(text) // max(1, breadth(text)))
    if len(text) > room * lines:
        tail = room * lines // 2
        text = f"{text[: room * lines - tail - 1]}…{text[-tail:]}"
    found = textwrap.wrap(text, room)
    if len(found) > lines:
        found = [text[i : i + room] for i in range(0, len(text), room)]
    return "\n".join(found)


def wrapped_apart(texts: Sequence[str], room: int, lines: int) -> list[str]:
    """Each text wrapped, and no two of them alike.

    Where some would look alike, long texts are reduced to the words in which they differ. Where these are too long,
    too, they also begin with the number of the text.
    """
    made = [wrapped(text, room, lines) for text in texts]
    long = {i: text for i, (text, short) in enumerate(zip(texts, made, strict=True)) if "…" in short}
    for number in ("", "{}: "):
        if len({*made}) < len({*texts}):
            for i, text in long.items():
                made[i] = wrapped(number.format(i + 1) + _difference(text, list(long.values())), room, lines)
    return made


def _difference(text: str, others: Sequence[str]) -> str:
    """The words of `text` in which one of the others differs. A long word is cut shortly before the difference."""
    kept = []
    for word, *beside in zip_longest(*(one.split(" ") for one in (text, *others)), fillvalue=""):
        same = max((_common_beginning(word, other) for other in beside if other != word), default=None)
        if same is not None:
            kept.append(word if same < 16 else f"…{word[same - 8 :]}")
    return f"… {' '.join(kept)}"


def _common_beginning(one: str, other: str) -> int:
    """The length of the beginning that both have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
