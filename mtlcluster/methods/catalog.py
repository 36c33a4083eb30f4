"""What methods there are and which options they take: read from their source, so that checking a grid needs no torch.

A method is the class of its file whose base is Schedule, Weighting or Gradient; its options are the keyword-only
parameters of its `__init__`, with their annotations and defaults; its summary is its docstring, `paper` what it cites.
"""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from mtlcluster.checked import Checked, first_mistake
from mtlcluster.errors import nearest
from mtlcluster.methods import options as option_types

FOLDER = Path(__file__).parent
BASES = {"Schedule": "schedule", "Weighting": "weighting", "Gradient": "gradient"}
DEFAULTS = {"schedule": "all", "weighting": "equal", "gradient": "sum"}         # the plain sum of the losses
SLOTS = tuple(DEFAULTS)
ANNOTATIONS = {**vars(option_types), "Literal": Literal}


@dataclass(frozen=True)
class Method:
    name: str
    slot: str
    module: str
    class_name: str
    summary: str
    paper: str
    options: type[pydantic.BaseModel]       # checks them, and holds their defaults

    def defaults(self) -> dict[str, Any]:
        """The options that have a default, with it; required ones have the value None."""
        return {name: None if f.is_required() else f.default for name, f in self.options.model_fields.items()}


@functools.cache
def names(slot: str) -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in (FOLDER / f"{slot}s").glob("*.py") if p.stem != "__init__"))


@functools.cache
def method(slot: str, name: str) -> Method:
    """The method `name` of `slot`. Raises ValueError with the nearest name, or the slot that it does belong to."""
    if name not in names(slot):
        other = next((s for s in SLOTS if name in names(s)), None)
        if other:
            raise ValueError(f"'{name}' is a {other}, not a {slot}")
        raise ValueError(f"unknown {slot} '{name}'{nearest(name, names(slot))}")
    file = FOLDER / f"{slot}s" / f"{name}.py"
    tree = ast.parse(file.read_text("utf-8"))
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and _slot_of(n) == slot)
    fields = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }
    return Method(
        name=name,
        slot=slot,
        module=f"mtlcluster.methods.{slot}s.{name}",
        class_name=node.name,
        summary=(ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " "),
        paper=fields.get("paper", ""),
        options=_options_model(name, node),
    )


def catalog() -> list[Method]:
    """Every built-in method, slot by slot."""
    return [method(slot, name) for slot in SLOTS for name in names(slot)]


def _slot_of(node: ast.ClassDef) -> str | None:
    return next((BASES[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in BASES), None)


def _options_model(name: str, node: ast.ClassDef) -> type[pydantic.BaseModel]:
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    fields: dict[str, Any] = {}
    if init is not None:
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
            assert argument.annotation is not None, f"{name}: option {argument.arg} has no annotation"
            annotation = eval(ast.unparse(argument.annotation), {"__builtins__": {}}, _annotation_names())  # noqa: S307
            fields[argument.arg] = (annotation, ... if default is None else ast.literal_eval(default))
    return pydantic.create_model(name, __base__=Checked, **fields)


def _annotation_names() -> dict[str, Any]:
    return {**ANNOTATIONS, "float": float, "int": int, "str": str, "bool": bool, "list": list, "dict": dict}


def check_method(value: Any) -> dict[str, dict[str, Any]]:
    """The full form of what a configuration says of its method: for each slot a name and every option.

    value: a name (`pcgrad`), or a mapping of slots to a name or to `{name: …, option: …}`.
    Raises ValueError with a sentence for the user.
    """
    if isinstance(value, str):
        slot = next((slot for slot in SLOTS if value in names(slot)), None)
        if slot is None:
            raise ValueError(f"unknown method '{value}'{nearest(value, [n for s in SLOTS for n in names(s)])}")
        value = {slot: value}
    if not isinstance(value, dict):
        raise ValueError(f"method should be a name or a mapping of {', '.join(SLOTS)}, found {value!r}")
    for slot in value:
        if slot not in SLOTS:
            raise ValueError(f"method has no slot '{slot}'{nearest(str(slot), SLOTS)}")
    return {slot: _check_slot(slot, value.get(slot) or DEFAULTS[slot]) for slot in SLOTS}


def _check_slot(slot: str, value: Any) -> dict[str, Any]:
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError(f"method.{slot} should be a name or {{name: …, options}}, found {value!r}")
    entry = method(slot, given["name"])
    try:
        checked = entry.options(**{key: v for key, v in given.items() if key != "name"})
    except pydantic.ValidationError as error:
        raise ValueError(f"{slot} '{entry.name}': {first_mistake(error, entry.options)[1]}") from None
    return {"name": entry.name, **checked.model_dump()}


def named_tasks(full: dict[str, dict[str, Any]]) -> list[str]:
    """The tasks that a method's options name: `task`, lists, and the keys of options of the type PerTask."""
    options = [option for chosen in full.values() for option in chosen.items()]
    single = [value for name, value in options if name == "task"]
    return single + [task for _, value in options if isinstance(value, (dict, list)) for task in value]


def sparse_method(full: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`full` without what stands at its default."""
    sparse = {}
    for slot, chosen in full.items():
        defaults = method(slot, chosen["name"]).defaults()
        options = {k: v for k, v in chosen.items() if k != "name" and (k not in defaults or v != defaults[k])}
        if options or chosen["name"] != DEFAULTS[slot]:
            sparse[slot] = {"name": chosen["name"], **options}
    return sparse


def method_label(full: dict[str, dict[str, Any]]) -> str:
    """A short name for figures and folders: `pcgrad`, `dsg+gradnorm(alpha=0.5)`; the plain sum is `equal`."""
    parts = []
    for chosen in sparse_method(full).values():
        options = ",".join(_plain(key, value) for key, value in chosen.items() if key != "name")
        parts.append(f"{chosen['name']}({options})" if options else chosen["name"])
    return "+".join(parts) or DEFAULTS["weighting"]


def _plain(key: str, value: Any) -> str:
    if isinstance(value, dict):         # per task
        return ",".join(_plain(task, of_task) for task, of_task in value.items())
    if isinstance(value, list):         # of tasks
        return f"{key}={'+'.join(value)}"
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
