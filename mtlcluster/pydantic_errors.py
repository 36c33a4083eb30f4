"""Turns pydantic's errors into one sentence: the place, what was expected, what was found, the nearest right name."""

import re
from collections.abc import Sequence
from typing import Any

import pydantic

from mtlcluster.errors import nearest, shown

Key = tuple[str | int, ...]  # the keys that lead to a value in nested mappings and lists


class Checked(pydantic.BaseModel):
    """Base class of everything that a user writes.

    Unknown keys are refused, values are not converted silently, numbers are finite, and objects can't be changed.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


# Messages for errors that pydantic words in terms of Python, by pydantic's type of error.
PLAIN_WORDS = {
    "dict_type": "should be keys and values",
    "model_type": "should be keys and values",
    "too_short": "should have at least {min_length} of them",
    "too_long": "should have at most {max_length} of them",
    "string_too_short": "should not be empty",
}


# Names of types that pydantic adds to the place of an error, if a value fits none of several types.
TYPE = re.compile(r"(constrained-)?(int|float|str|bool|none)|(list|dict|tuple|literal|nullable|function-\w+)\[.*\]")


def first_mistake(error: pydantic.ValidationError, model: type[pydantic.BaseModel]) -> tuple[Key, str]:
    """The first mistake: the keys that lead to it, and a sentence about it."""
    mistakes = error.errors()
    # A misspelt key is often also a missing one: to name the misspelling helps more.
    mistake = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    key = _without_types(mistake["loc"], [m["loc"] for m in mistakes])
    alike = [m for m in mistakes if m["loc"][:-1] == key] if key == mistake["loc"][:-1] else [mistake]
    if mistake["type"] == "extra_forbidden":
        return key, f"unknown key '{key[-1]}'{nearest(str(key[-1]), known_keys(model, key[:-1]))}"
    if mistake["type"] == "missing":
        return key, f"missing key '{dotted(key)}'"
    if is_key := key[-1:] == ("[key]",):
        key = key[:-1]
    if mistake["type"] == "invalid_key" or (is_key and mistake["type"] == "string_type"):
        return key, f"{dotted(key)}: a key should be a word here; write a number in quotes"
    first, *more = dict.fromkeys(map(_wording, alike))
    message = " or ".join([first, *(words.removeprefix("should be ") for words in more)])
    found = "" if isinstance(mistake["input"], dict) else f", found {shown(mistake['input'])}"
    if mistake["type"] == "value_error":
        found = ""
    found += hint(mistake["type"], mistake["input"])
    return key, f"{dotted(key)} {message}{found}" if key and message.startswith("should") else message


def _wording(mistake: Any) -> str:
    if mistake["type"] in PLAIN_WORDS:
        return PLAIN_WORDS[mistake["type"]].format(**mistake.get("ctx", {}))
    message: str = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message


def _without_types(place: Key, all_places: Sequence[Key]) -> Key:
    """`place` without the names of types that pydantic adds if a value fits none of several types."""
    kept: list[str | int] = []
    for i, part in enumerate(place):
        tried = {str(other[i]) for other in all_places if other[:i] == place[:i] and len(other) > i}
        if len(tried) == 1 or not all(map(TYPE.fullmatch, tried)):
            kept.append(part)
    return tuple(kept)


def hint(kind: str, found: Any) -> str:
    """Such as "; write true" for `yes`: a word that other versions of YAML, or Python, would read as such a value."""
    if not isinstance(found, str):
        return ""
    if kind == "bool_type" and found.lower() in ("yes", "on", "no", "off"):
        return f"; write {'true' if found.lower() in ('yes', 'on') else 'false'}"
    try:
        return f"; write {int(found, 0)}" if kind in ("int_type", "float_type") else ""
    except ValueError:
        return ""


def dotted(key: Key) -> str:
    """Such as "optimizer.lr"."""
    return ".".join(str(part) for part in key)


def known_keys(model: type[pydantic.BaseModel], key: Key) -> list[str]:
    """The keys that `model` accepts at the place `key`."""
    for part in key:
        field = model.model_fields.get(str(part))
        inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if field] if field else []
        models = [a for a in inner if isinstance(a, type) and issubclass(a, pydantic.BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
