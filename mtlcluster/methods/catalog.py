"""Lists the available methods, and checks a configuration's method. Imports none of them (see source.py).

A user's own method is named by its file and its class, `my_method.py:Halves`. The path is from the folder of the file
that names it. A checked configuration has the full path; identities and labels have none.
"""

import functools
import os
from pathlib import Path
from typing import Any

import pydantic

from mtlcluster.defaults import FIRST, NEWEST, defaults_before, first_defaults
from mtlcluster.errors import UserError, nearest
from mtlcluster.methods.combinations import refuse_meaningless, why_not
from mtlcluster.methods.options import USED_LAST, PerTask
from mtlcluster.methods.source import Method, read_built_in, read_own
from mtlcluster.pydantic_errors import first_mistake

FOLDER = Path(__file__).parent
DEFAULTS = {"schedule": "all", "weighting": "equal", "gradient": "sum"}  # the plain sum of the losses
SLOTS = tuple(DEFAULTS)
OWN = ".py:"  # every name of a user's own method contains it


@functools.cache
def names(slot: str) -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in (FOLDER / f"{slot}s").glob("*.py") if p.stem != "__init__"))


def catalog() -> list[Method]:
    """Every built-in method, slot by slot."""
    return [_built_in(slot, name) for slot in SLOTS for name in names(slot)]


def find(name: str) -> Method:
    """The method `name` of any slot. Raises ValueError with the nearest name, or with what is wrong in its file."""
    if OWN in name:
        return _own_method(name)
    slot = next((slot for slot in SLOTS if name in names(slot)), None)
    if slot is None:
        raise ValueError(f"unknown method '{name}'{nearest(name, [n for s in SLOTS for n in names(s)])}")
    return _built_in(slot, name)


def method(slot: str, name: str) -> Method:
    """The method `name` of `slot`. Raises ValueError with the nearest name, or with the slot that it belongs to."""
    if name in names(slot):
        return _built_in(slot, name)
    if OWN not in name and not any(name in names(other) for other in SLOTS):
        raise ValueError(f"unknown {slot} '{name}'{nearest(name, names(slot))}")
    found = find(name)
    if found.slot != slot:
        raise ValueError(f"'{found.label}' is a {found.slot}, not a {slot}")
    return found


@functools.cache
def _built_in(slot: str, name: str) -> Method:
    return read_built_in(FOLDER / f"{slot}s" / f"{name}.py", slot)


def _own_method(name: str) -> Method:
    full = placed_method(name, Path.cwd())
    file = own_file(full)
    try:
        found = _read_own(full, file.stat().st_mtime_ns if file.exists() else None)
    except UserError as error:
        raise ValueError(str(error)) from None
    if any(found.label in names(slot) for slot in SLOTS):
        raise ValueError(f"{file}: '{found.label}' is the name of a built-in method: call the class otherwise")
    return found


@functools.cache
def _read_own(name: str, _changed: int | None) -> Method:
    return read_own(name)


def own_file(name: str) -> Path:
    return Path(name.rpartition(":")[0])


def own_files(full: dict[str, dict[str, Any]]) -> list[Path]:
    """The files of the user's own methods."""
    return [own_file(chosen["name"]) for chosen in full.values() if OWN in chosen["name"]]


def placed_method(value: Any, folder: Path) -> Any:
    """A configuration's method, or a part of it, with full paths: the user's own files are relative to `folder`."""
    if isinstance(value, dict):
        return {key: placed_method(inner, folder) for key, inner in value.items()}
    if isinstance(value, str) and OWN in value:
        return os.path.normpath(folder.absolute() / Path(value).expanduser())
    return value


def moved_method(full: dict[str, dict[str, Any]], folder: str, only: Path | None = None) -> dict[str, dict[str, Any]]:
    """`full` with the user's own files (or only that file) moved to `folder`."""
    return {
        slot: {**chosen, "name": _moved(chosen["name"], folder)} if only in (None, own_file(chosen["name"])) else chosen
        for slot, chosen in full.items()
    }


def _moved(name: str, folder: str) -> str:
    return str(Path(folder, Path(name).name)) if OWN in name else name


def by_slot(name: str) -> dict[str, Any]:
    """The long form of `pcgrad`: `{gradient: pcgrad}`."""
    return {find(name).slot: name}


def check_method(value: Any, version: int = NEWEST) -> dict[str, dict[str, Any]]:
    """Checks what a configuration says of its method.

    Args:
        value: a name (`pcgrad`), or a mapping of slots to a name or to `{name: …, option: …}`.
        version: the version of the defaults that options get which `value` does not give.

    Returns:
        The full form: for each slot its name and every option.

    Raises:
        ValueError: something is wrong; the message is a sentence for the user.
    """
    if isinstance(value, str):
        value = by_slot(value)
    if not isinstance(value, dict):
        raise ValueError(f"method should be a name or a mapping of {', '.join(SLOTS)}, found {value!r}")
    for slot in value:
        if slot not in SLOTS:
            raise ValueError(f"method has no slot '{slot}'{nearest(str(slot), SLOTS)}")
    gradient = _check_slot("gradient", value.get("gradient") or DEFAULTS["gradient"], version)
    usual = _defaults(gradient["name"])
    full = {slot: _check_slot(slot, value.get(slot) or usual[slot], version) for slot in ("schedule", "weighting")}
    full["gradient"] = gradient
    refuse_meaningless(full, {slot: method(slot, chosen["name"]) for slot, chosen in full.items()})
    return full


def _defaults(gradient: str) -> dict[str, str]:
    """The method of each slot that is left out. The weighting is the usual one of the gradient method."""
    return {**DEFAULTS, "weighting": method("gradient", gradient).constants["usual_weighting"]}


def _check_slot(slot: str, value: Any, version: int) -> dict[str, Any]:
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError(f"method.{slot} should be a name or {{name: …, options}}, found {value!r}")
    entry = method(slot, given["name"])
    options = {key: v for key, v in given.items() if key != "name"}
    for option in options.keys() - entry.options.model_fields.keys():
        if reason := why_not(entry, option):
            raise ValueError(f"{slot} '{entry.label}': {reason}")
    try:
        checked = entry.options(**(_depending(slot, options) | _older(slot, entry, version) | options))
    except pydantic.ValidationError as error:
        raise ValueError(f"{slot} '{entry.label}': {first_mistake(error, entry.options)[1]}") from None
    return {"name": entry.name, **checked.model_dump()}


def _depending(slot: str, options: dict[str, Any]) -> dict[str, Any]:
    """Today's defaults that depend on other options."""
    return {"layer": USED_LAST} if slot == "gradient" and options.get("at") == "last_layer" else {}


def _older(slot: str, entry: Method, version: int) -> dict[str, Any]:
    """The defaults of a method's options that differed from today's in a version."""
    found = defaults_before(f"{slot}.*", version) | defaults_before(f"{slot}.{entry.name}", version)
    return {option: value for option, value in found.items() if option in entry.options.model_fields}


def named_tasks(full: dict[str, dict[str, Any]]) -> list[str]:
    """The tasks that a method's options name.

    They are the option `task`, the keys of options of the type PerTask and, for built-in methods, all that is in lists.
    """
    found: list[str] = []
    for slot, chosen in full.items():
        entry = method(slot, chosen["name"])
        for name, field in entry.options.model_fields.items():
            if name == "task":
                found.append(chosen[name])
            elif field.annotation == PerTask:
                found += chosen[name] or ()
            elif OWN not in entry.name:
                found += _in_lists(chosen[name])
    return [name for name in found if isinstance(name, str)]


def _in_lists(value: Any) -> list[Any]:
    """All values inside lists, on every level."""
    if isinstance(value, dict):
        return [inner for listed in value.values() for inner in _in_lists(listed)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in (_in_lists(inner) if isinstance(inner, list | dict) else [inner])]
    return []


def sparse_method(full: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`full` without options and slots at their first defaults, and without the folders of the user's own files.

    It is the part of a run's identity that the method decides.
    """
    usual = _defaults(full["gradient"]["name"])
    sparse = {}
    for slot, chosen in full.items():
        entry = method(slot, chosen["name"])
        defaults = entry.defaults() | _older(slot, entry, FIRST)
        options = {k: v for k, v in chosen.items() if k != "name" and (k not in defaults or v != defaults[k])}
        if options or chosen["name"] != usual[slot]:
            sparse[slot] = {"name": _moved(chosen["name"], ""), **options}
    return sparse


def without_younger_options(full: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`full` without the options whose default has changed and that are at their first default."""
    kept = {}
    for slot, chosen in full.items():
        first = first_defaults(f"{slot}.*") | first_defaults(f"{slot}.{chosen['name']}")
        kept[slot] = {k: v for k, v in chosen.items() if k not in first or v != first[k]}
    return kept


def method_label(full: dict[str, dict[str, Any]]) -> str:
    """A short name for figures and folders: `pcgrad`, `dsg+gradnorm(alpha=0.5)`; the plain sum is `equal`."""
    return sparse_label(sparse_method(full))


def sparse_label(sparse: dict[str, dict[str, Any]]) -> str:
    """The short name of a method in its sparse form, see `method_label`. It leaves out options at today's default."""
    parts = []
    for slot, chosen in sparse.items():
        name, own = chosen["name"].rpartition(":")[2], first_defaults(f"{slot}.{chosen['name']}")
        today = method(slot, name).defaults() if own else {}
        usual = {"layer": USED_LAST} | {option: today[option] for option in own}
        given = {k: value for k, value in chosen.items() if k != "name" and (k not in usual or value != usual[k])}
        options = ",".join(_plain(key, value) for key, value in given.items())
        parts.append(f"{name}({options})" if options else name)
    return "+".join(parts) or DEFAULTS["weighting"]


def _plain(key: str, value: Any) -> str:
    if isinstance(value, dict):  # per task
        return ",".join(_plain(str(task), of_task) for task, of_task in value.items())
    if isinstance(value, list):  # of tasks
        return f"{key}={'+'.join(str(inner) for inner in value)}"
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
