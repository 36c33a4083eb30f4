"""Describes the methods: all built-in ones in short, or a single one (built-in or the user's own) in full."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from mtlcluster.errors import UserError, nearest
from mtlcluster.methods.catalog import OWN, catalog, find
from mtlcluster.methods.source import OF_GRAMIANS, Method

WHAT = {
    "schedule": "which tasks train now, on which samples",
    "weighting": "how much each loss counts",
    "gradient": "which direction the shared parameters take",
}
EXAMPLES = {"list of tasks": "[TASK, TASK]", "tasks by epoch": "{0: [TASK], 3: [TASK, TASK]}", "mapping": "{}"}
TYPES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "dict": "number per task",
    "typing.Optional[typing.Annotated[float, Gt(gt=0)]]": "number > 0, or null",
    "str | None": "text",
    "list[str] | None": "list of tasks",
    "dict[typing.Annotated[int, Ge(ge=0)], list[str]] | None": "tasks by epoch",
    "dict[str, typing.Any] | None": "mapping",
    "typing.Any": "anything",
}
# What a method needs from the training loop, and what that costs in a step of T tasks.
GRADIENT_NEEDS = {
    "nothing": ("the gradient of the weighted sum alone", "one plain backward, nothing more"),
    "gramian": (
        "the inner products of the tasks' gradients (their Gramian)",
        "a backward through the trunk for each of T tasks; memory for at most T more gradients of the trunk",
    ),
    "jacobian": (
        "the tasks' gradients themselves",
        "a backward through the trunk for each of T tasks; memory for at most T more gradients of the trunk, and for "
        "what the method keeps",
    ),
}
WEIGHTING_NEEDS = {
    "needs_gradient_norms": (
        "the norm of each task's gradient at the last shared layer",
        "a backward from each of T heads to the last shared layer",
    ),
    "needs_losses_after": ("the losses of the same samples after the step", "one forward more"),
}
SEES = {  # by the function that a class defines to see it
    "observe_losses": "the losses of every step",
    "observe_validation": "what validations find",
    "observe_epoch": "the mean training losses of every epoch",
}


def all_methods(width: int) -> Iterator[str]:
    """Yields lines about all built-in methods, slot by slot: name, summary, paper, options with their defaults."""
    methods = catalog()
    indent = max(len(method.name) for method in methods) + 4
    for slot, what in WHAT.items():
        yield textwrap.fill(f"{slot}: {what}", width)
        for method in (method for method in methods if method.slot == slot):
            own_options = [name for name in method.options.model_fields if name not in _common(method)]
            parts = [method.summary, method.paper, ", ".join(_brief(method, name) for name in own_options)]
            for i, text in enumerate(part for part in parts if part):
                first = f"  {method.name}".ljust(indent) if i == 0 else " " * indent
                yield textwrap.fill(text, width, initial_indent=first, subsequent_indent=" " * indent)
        yield ""
    gramian = next(method for method in methods if _common(method))
    common = ", ".join(_brief(gramian, name) for name in OF_GRAMIANS)
    yield textwrap.fill(f"Gradient methods that need a Gramian also have the options {common}.", width)
    example = "{schedule: dsg, weighting: gradnorm, gradient: pcgrad}"
    yield textwrap.fill(f"One from each slot makes a method: method: {example}", width)
    more = "A slot that is left out has its default (all, equal, sum). More of one: mtlcluster methods NAME"
    yield textwrap.fill(more, width)


def one_method(name: str, width: int) -> Iterator[str]:
    """Yields lines with all about a method, `name` or `my_method.py:Name`. Raises UserError with the nearest name."""
    known = [method.name for method in catalog()]
    if name.endswith(".py"):
        raise UserError(f"{name} is a file; name its class, too: {name}:CLASS")
    if OWN not in name and name not in known:
        raise UserError(f"no method '{name}'{nearest(name, known)}")
    try:
        found = find(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    yield textwrap.fill(f"{found.label} ({found.slot}: {WHAT[found.slot]})", width)
    for paragraph in found.text.split("\n\n") if found.text else []:
        yield f"\n{textwrap.fill(paragraph, width)}"
    needs, costs = _needs_and_costs(found)
    yield ""
    for title, text in (("Needs", needs), ("Costs", costs), ("Cites", found.paper)):
        if text:
            yield textwrap.fill(f"{title}: {text}", width, subsequent_indent="       ")
    fields = found.options.model_fields
    if fields:
        yield "\nOptions:"
    for option, field in fields.items():
        default = "required" if field.is_required() else f"default {_plain(field.default)}"
        yield f"  {option}: {_type(field)}, {default}"
        if option in found.option_texts:
            text = found.option_texts[option]
            yield textwrap.fill(text, width, initial_indent="      ", subsequent_indent="      ")
    yield "\nIn a configuration:"
    if not any(field.is_required() for field in fields.values()):
        yield f"  method: {name}"
    if fields:
        options = ", ".join(f"{option}: {_example(option, field)}" for option, field in fields.items())
        yield f"  method: {{{found.slot}: {{name: {name}, {options}}}}}"
    if OWN in name:
        yield "\nThe path is from the folder of the file that names it."


def _needs_and_costs(method: Method) -> tuple[str, str]:
    """Two sentences from the source of a method: its needs, and its cost."""
    constants = method.constants
    needs = [words for function, words in SEES.items() if function in method.functions]
    costs = []
    if method.slot == "gradient":
        need, cost = GRADIENT_NEEDS[constants["needs"]]
        needs.insert(0, need)
        costs.append(cost)
        if _common(method):
            costs.append(
                "with at: representation or last_layer one backward through the trunk, by the gradients there alone; "
                "with every: k the T backwards at each k-th step only"
            )
        if constants["usual_weighting"] != "equal":
            needs.append(f"weighting {constants['usual_weighting']}, taken where none is given")
    if method.slot == "weighting":
        asked = [words for constant, words in WEIGHTING_NEEDS.items() if constants[constant]]
        needs = ["the losses", *(need for need, _ in asked), *needs]
        costs = [cost for _, cost in asked] or ["nothing beside the backward of the sum"]
        if not constants["linear"]:
            costs.append("with accumulate another forward, since the weights depend on the losses of the whole batch")
    if method.slot == "schedule":
        costs.append("nothing; a step takes the heads and losses of its active tasks only")
    return "; ".join(needs) or "nothing", "; ".join(costs)


def _common(method: Method) -> list[str]:
    """The options that every gradient method with a Gramian has, if the method is one."""
    return list(OF_GRAMIANS) if method.slot == "gradient" and method.constants["needs"] == "gramian" else []


def _brief(method: Method, option: str) -> str:
    field = method.options.model_fields[option]
    return f"{option} ({_type(field)})" if field.is_required() else f"{option} = {_plain(field.default)}"


def _type(field: FieldInfo) -> str:
    """The type in words, such as `number > 0`, `one of a, b` or `text`."""
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


def _example(option: str, field: FieldInfo) -> str:
    if not field.is_required():
        return EXAMPLES.get(_type(field), "null") if field.default is None else _plain(field.default)
    return "{TASK: 1.0}" if getattr(field.annotation, "__name__", "") == "dict" else option.upper()


def _plain(value: Any) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)
