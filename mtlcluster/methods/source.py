"""Reads one method from its source without importing it, so that a grid is checked without torch.

A method is a class. Its base (Schedule, Weighting or Gradient) or its decorator (@schedule, @weighting or @gradient)
says its slot. The keyword-only parameters of its `__init__` are its options, with their annotations and defaults. Its
docstring says what it does; its class constants say what it needs, costs and cites.
"""

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from mtlcluster.errors import UserError, nearest
from mtlcluster.methods import options as option_types
from mtlcluster.pydantic_errors import Checked
from mtlcluster.python_file import PythonFile

BASES = {"Schedule": "schedule", "Weighting": "weighting", "Gradient": "gradient"}
CONSTANTS: dict[str, Any] = {
    "paper": "",
    "needs": "gramian",
    "usual_weighting": "equal",
    "linear": True,
    "needs_gradient_norms": False,
    "needs_losses_after": False,
}
# The function that a method must define, by its slot. For gradient methods it depends on what they need.
DEFINED = {"schedule": "active", "weighting": "forward", "nothing": "", "gramian": "weights", "jacobian": "direction"}
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example):\n")
ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)
NEEDS = ("nothing", "gramian", "jacobian")
# The options that every gradient method with needs = "gramian" has: type and default. `layer` is for at: last_layer,
# where its default is USED_LAST.
OF_GRAMIANS = {
    "at": (option_types.At, "shared"), "every": (option_types.Count, 1), "layer": (option_types.Layer, None),
}  # fmt: skip
# The option of every weighting with needs_gradient_norms.
OF_NORMS = {"layer": (option_types.Layer, option_types.USED_LAST)}
ANNOTATIONS = {
    **{name: kind for name, kind in vars(option_types).items() if not name.startswith("_") and name != "USED_LAST"},
    **{kind.__name__: kind for kind in (float, int, str, bool, list, dict)},
    "Literal": Literal,
    "Any": Any,
}


@dataclass(frozen=True)
class Method:
    """A method, as its source describes it.

    Attributes:
        name: the name in a configuration; for a user's own method, the path and the class.
        label: the name in figures.
        slot: "schedule", "weighting" or "gradient".
        file: the source.
        class_name: the class in it.
        text: the docstring of the class without its sections.
        option_texts: what the section `Args` says of each option.
        constants: the values of the class constants that CONSTANTS lists.
        functions: the functions that the class defines.
        options: a pydantic model, which checks the options and holds their defaults.
    """

    name: str
    label: str
    slot: str
    file: Path
    class_name: str
    text: str
    option_texts: dict[str, str]
    constants: dict[str, Any]
    functions: Collection[str]
    options: type[pydantic.BaseModel]

    @property
    def summary(self) -> str:
        return self.text.split("\n\n")[0].replace("\n", " ")

    @property
    def paper(self) -> str:
        return str(self.constants["paper"])

    def defaults(self) -> dict[str, Any]:
        """The default of each option; None for a required one."""
        return {name: None if f.is_required() else f.default for name, f in self.options.model_fields.items()}


def read_built_in(file: Path, slot: str) -> Method:
    """Reads a method of the library: the class of this slot in its file."""
    source = PythonFile(file)
    node = next(n for n in source.classes.values() if slot in _slots(n))
    return _read(node, source, slot, file.stem, file.stem)


def read_own(name: str) -> Method:
    """Reads a user's method.

    Args:
        name: the file and the class, such as `/path/my_method.py:Halves`.

    Raises:
        UserError: the file or the class is missing, or the class is no valid method.
    """
    place, _, class_name = name.rpartition(":")
    file = Path(place)
    if not file.is_file():
        raise UserError(f"method '{file.name}:{class_name}': there is no file {file}")
    source = PythonFile(file)
    node = source.class_(class_name)
    slots = _slots(node)
    if not slots:
        source.refuse(node, f"class {class_name} should have one of the bases {', '.join(BASES)}; it tells the slot")
    if other_bases := [ast.unparse(base) for base in node.bases if _last_name(base) not in BASES]:
        source.refuse(node, f"class {class_name} has the base {', '.join(other_bases)}; a method has no other base")
    if len(slots) > 1:
        source.refuse(node, f"class {class_name} fills the slots {' and '.join(slots)}: write a class for each")
    [slot] = slots
    found = _read(node, source, slot, name, class_name)
    needed = DEFINED[found.constants["needs"] if slot == "gradient" else slot]
    if needed and needed not in found.functions:
        source.refuse(node, f"class {class_name} defines no function '{needed}'{nearest(needed, found.functions)}")
    return found


def _slots(node: ast.ClassDef) -> list[str]:
    """The slots that the bases and decorators name, each once."""
    names = map(_last_name, [*node.bases, *node.decorator_list])
    slots = [slot for name in names for base, slot in BASES.items() if name in (base, slot)]
    return list(dict.fromkeys(slots))


def _last_name(node: ast.expr) -> str:
    """`Gradient` of `Gradient` and of `mtlcluster.Gradient`."""
    return ast.unparse(node).rpartition(".")[2]


def _read(node: ast.ClassDef, source: PythonFile, slot: str, name: str, label: str) -> Method:
    constants = {**CONSTANTS, **_constants(node, source)}
    functions = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    if constants["needs"] not in NEEDS:
        source.refuse(node, f"needs is {constants['needs']!r}{nearest(str(constants['needs']), NEEDS)}")
    common = common_options(slot, constants)
    fields = _options(node, source)
    if taken := sorted(fields.keys() & {"name", *common}):
        source.refuse(node, f"option '{taken[0]}' has a meaning in every {slot} already; choose another name")
    options = pydantic.create_model(node.name, __base__=Checked, **fields, **common)
    text, option_texts = _docstring(node)
    return Method(name, label, slot, source.path, node.name, text, option_texts, constants, functions, options)


def common_options(slot: str, constants: dict[str, Any]) -> dict[str, Any]:
    """The options, with type and default, that a method of this kind has beside its own."""
    if slot == "gradient" and constants["needs"] == "gramian":
        return OF_GRAMIANS
    return OF_NORMS if slot == "weighting" and constants["needs_gradient_norms"] else {}


def _docstring(node: ast.ClassDef) -> tuple[str, dict[str, str]]:
    """The docstring without its sections, and what the section `Args` says of each option."""
    prose, options = [], {}
    for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
        if SECTION.match(paragraph) is None:
            prose.append(paragraph)
        elif paragraph.startswith("Args:"):
            options = {name: " ".join(text.split()) for name, text in ARGUMENT.findall(paragraph)}
    return "\n\n".join(prose), options


def _constants(node: ast.ClassDef, source: PythonFile) -> dict[str, Any]:
    """The class constants of a method, such as `paper = "…"`, with or without an annotation."""
    found = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            if isinstance(target, ast.Name) and target.id in CONSTANTS:
                if not isinstance(statement.value, ast.Constant):
                    source.refuse(statement, f"{target.id} should be a plain value: the file is read, not run")
                found[target.id] = statement.value.value
    return found


def _options(node: ast.ClassDef, source: PythonFile) -> dict[str, Any]:
    """The type and the default of each option, as pydantic.create_model takes them."""
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is None:
        return {}
    positional = [*init.args.posonlyargs, *init.args.args]
    if len(positional) != 2 or init.args.vararg or init.args.kwarg:
        source.refuse(init, "__init__ should take self, context and, after a *, the options: (self, context, *, …)")
    fields = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        if argument.arg.startswith("_"):
            source.refuse(argument, f"option '{argument.arg}' should begin with a letter")
        try:
            value = ... if default is None else ast.literal_eval(default)
        except ValueError:
            source.refuse(argument, f"the default of option '{argument.arg}' should be a plain value, such as 0.5")
        fields[argument.arg] = (_type(argument, source), value)
    return fields


def _type(argument: ast.arg, source: PythonFile) -> Any:
    if argument.annotation is None:
        return Any
    try:
        kind = _kind(argument.annotation)
        pydantic.TypeAdapter(kind)
    except (LookupError, TypeError, ValueError, SyntaxError, pydantic.PydanticUserError):
        text, known = ast.unparse(argument.annotation), ", ".join(sorted(ANNOTATIONS))
        source.refuse(argument, f"option '{argument.arg}': the type {text} is not known here (known: {known})")
    return kind


def _kind(node: ast.expr) -> Any:
    """The type that an annotation means. Raises an error if a configuration can't have this type."""
    match node:
        case ast.Constant(None):
            return None
        case ast.Constant(str(text)):
            return _kind(ast.parse(text, mode="eval").body)
        case ast.Name(name):
            return ANNOTATIONS[name]
        case ast.BinOp(left, ast.BitOr(), right):
            return _kind(left) | _kind(right)
        case ast.Subscript(ast.Name("Literal"), values):
            return Literal[ast.literal_eval(values)]
        case ast.Subscript(of, ast.Tuple(parts)):
            return _kind(of)[tuple(map(_kind, parts))]
        case ast.Subscript(of, part):
            return _kind(of)[_kind(part)]
    raise ValueError(ast.unparse(node))
