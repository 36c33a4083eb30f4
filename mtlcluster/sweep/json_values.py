"""Checks the values of a JSON file, which somebody else may have written. Each raises ValueError for a wrong value."""

import math
from collections.abc import Mapping
from typing import Any

from mtlcluster.errors import shown
from mtlcluster.sweep.status import is_plain

DEEPEST = 20  # levels of a drawn value or of a method's options


def whole(value: Any, most: int = 2**53) -> int:
    """A whole number from 0 to `most`."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{shown(value)} is no whole number of a sensible size")
    return value


def seed(value: Any) -> int:
    """A seed; as the key of a mapping it is a text."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
    return whole(number, 2**63 - 1)


def number(value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not abs(value) < math.inf or abs(value) > 1e308:
        raise ValueError(f"{shown(value)} is no finite number")
    return float(value)


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no mapping")
    return value


def listed(value: Any) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is no list")
    return value


def plain(value: Any) -> dict[str, Any]:
    """A mapping of plain values: texts, numbers of sensible size, and lists and mappings of these."""
    if not isinstance(value, dict) or not is_plain(value, DEEPEST):
        raise ValueError(f"{shown(value)} is no mapping of plain values")
    return value
