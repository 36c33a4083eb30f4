"""Fonts for names in any script: the font of all figures, and others of this machine for the characters it lacks."""

import re
from collections.abc import Iterable

from matplotlib import font_manager

from mtlcluster import printable

FAMILY = "DejaVu Sans"  # comes with matplotlib
BOXES = "Last Resort"  # comes with matplotlib, too; it has a box for every character, which is no help
# Han characters look different in each country. The other characters of a text tell which country it is.
COUNTRIES = (("[぀-ヿ]", "JP"), ("[가-힣]", "KR"), ("", "SC"))


def families(text: str) -> tuple[list[str], str]:
    """Chooses the families that together have the characters of `text`.

    Returns:
        The families, FAMILY first; and the characters that no font here has.
    """
    missing = _without({*printable.line(text)}, FAMILY)
    if not missing:
        return [FAMILY], ""
    country = next(name for pattern, name in COUNTRIES if re.search(pattern, text))
    found = {name: missing - _without(missing, name) for name in _installed()}
    chosen = []
    while best := max(found, key=lambda name: (len(found[name] & missing), *_preference(name, country)), default=None):
        if not found[best] & missing:
            break
        chosen.append(best)
        missing -= found[best]
    return [FAMILY, *chosen], "".join(sorted(missing))


def _installed() -> list[str]:
    """The families on this machine, by name."""
    return sorted({entry.name for entry in font_manager.fontManager.ttflist} - {FAMILY})


def _preference(name: str, country: str) -> tuple[bool, ...]:
    words = name.split()
    return "Sans" in words, country in words, "Mono" not in words


def _without(characters: Iterable[str], family: str) -> set[str]:
    """The characters that a family lacks."""
    wanted = font_manager.FontProperties(family=[family])
    try:
        font = font_manager.get_font(font_manager.findfont(wanted, fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):  # a file that is gone or damaged
        return set(characters)
    if BOXES in font.family_name:
        return set(characters)
    return {character for character in characters if not font.get_char_index(ord(character))}
