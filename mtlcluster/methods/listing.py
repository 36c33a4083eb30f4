"""The built-in methods in words: all of them in short, or one with how to write it in a configuration."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from mtlcluster.errors import UserError, nearest
from mtlcluster.methods.catalog import Method, catalog

WHAT = {
    "schedule": "which tasks train now, on which samples",
    "weighting": "how much each loss counts",
    "gradient": "which direction the shared parameters take",
}
TYPES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "dict": "number per task",
    "list[str] | None": "list of tasks",
}


def all_methods(width: int) -> Iterator[str]:
    """Slot by slot: name, summary, paper, and the options with their defaults."""
    methods = catalog()
    indent = max(len(method.name) for method in methods) + 4
    for slot, what in WHAT.items():
        yield f"{slot}: {what}"
        for method in (method for method in methods if method.slot == slot):
            parts = [method.summary, method.paper, ", ".join(_brief(method))]
            for i, text in enumerate(part for part in parts if part):
                first = f"  {method.name}".ljust(indent) if i == 0 else " " * indent
                yield textwrap.fill(text, width, initial_indent=first, subsequent_indent=" " * indent)
        yield ""
    yield "One from each slot makes a method: method: {schedule: dsg, weighting: gradnorm, gradient: pcgrad}"
    yield "A slot that is left out has its default (all, equal, sum). More of one: mtlcluster methods NAME"


def one_method(name: str, width: int) -> Iterator[str]:
    """All about the method `name`. Raises UserError with the nearest name where there is none."""
    found = {method.name: method for method in catalog()}.get(name)
    if found is None:
        raise UserError(f"no method '{name}'{nearest(name, [method.name for method in catalog()])}")
    yield f"{found.name} ({found.slot}: {WHAT[found.slot]})"
    yield textwrap.fill(found.summary, width)
    if found.paper:
        yield textwrap.fill(f"Paper: {found.paper}", width)
    fields = found.options.model_fields
    if fields:
        yield "\nOptions:"
    for option, field in fields.items():
        default = "required" if field.is_required() else f"default {_plain(field.default)}"
        yield f"  {option}: {_type(field)}, {default}"
    yield "\nIn a configuration:"
    if not any(field.is_required() for field in fields.values()):
        yield f"  method: {name}"
    if fields:
        options = ", ".join(f"{option}: {_example(field)}" for option, field in fields.items())
        yield f"  method: {{{found.slot}: {{name: {name}, {options}}}}}"


def _brief(method: Method) -> Iterator[str]:
    for option, field in method.options.model_fields.items():
        yield f"{option} ({_type(field)})" if field.is_required() else f"{option} = {_plain(field.default)}"


def _type(field: FieldInfo) -> str:
    """`float > 0`, `one of a, b`, `text`."""
    hint: Any = field.annotation
    choices = getattr(hint, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return f"one of {', '.join(choices)}"
    name = TYPES.get(str(hint)) or TYPES.get(getattr(hint, "__name__", ""), str(hint))
    bounds = [
        f"{sign} {_plain(getattr(limit, attribute))}"
        for limit in field.metadata
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if hasattr(limit, attribute)
    ]
    return " ".join([name, " and ".join(bounds)]).strip()


def _example(field: FieldInfo) -> str:
    if not field.is_required():
        return "[TASK, TASK]" if field.default is None else _plain(field.default)
    return "{TASK: 1.0}" if getattr(field.annotation, "__name__", "") == "dict" else "TASK"


def _plain(value: Any) -> str:
    """As YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)
