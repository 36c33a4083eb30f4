"""From pydantic's findings to one sentence: where, what was found, what was expected and the nearest right name."""

from typing import Any

import pydantic

from mtlcluster.errors import nearest

Key = tuple[str | int, ...]         # the keys that lead to a value in nested mappings and lists


class Checked(pydantic.BaseModel):
    """Base of everything that a user writes: no unknown keys, no silent conversions, no changes afterwards."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def first_mistake(error: pydantic.ValidationError, model: type[pydantic.BaseModel]) -> tuple[Key, str]:
    """The place (the keys that lead to it) and the wording of the first mistake."""
    mistakes = error.errors()
    # A misspelt key is often also a missing one: the misspelling is the better news.
    mistake = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    key: Key = tuple(mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return key, f"unknown key '{key[-1]}'{nearest(str(key[-1]), known_keys(model, key[:-1]))}"
    if mistake["type"] == "missing":
        return key, f"missing key '{dotted(key)}'"
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
    found = "" if isinstance(mistake["input"], dict) else f", found {shown(mistake['input'])}"
    if mistake["type"] == "value_error":
        found = ""
    return key, f"{dotted(key)} {message}{found}" if key and message.startswith("should") else message


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def known_keys(model: type[pydantic.BaseModel], key: Key) -> list[str]:
    """The keys that `model` admits at the place `key`."""
    for part in key:
        field = model.model_fields.get(str(part))
        inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if field] if field else []
        models = [a for a in inner if isinstance(a, type) and issubclass(a, pydantic.BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
