"""Reads YAML with its line numbers, so that a mistake is reported with its line, and writes YAML."""

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mtlcluster.errors import UserError, shown
from mtlcluster.pydantic_errors import Key
from mtlcluster.sweep.reading import DEEPEST, read_yaml_text

CORE = "tag:yaml.org,2002:"
MOST_VALUES = 200_000  # of one file, aliases expanded: a few lines of aliases can stand for more than fits in memory

# Words without quotes are read as in YAML 1.2: `1e-3` is a number, 010 is ten; `on`, `1_000`, `1:30` and `2024-01-01`
# are texts.
PLAIN = {
    CORE + "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    CORE + "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    CORE + "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
    CORE + "null": re.compile(r"~|null|Null|NULL|"),
    CORE + "merge": re.compile(r"<<"),
}
STARTS = {"bool": "tTfF", "int": "-+0123456789", "float": "-+.0123456789", "null": ["~", "n", "N", ""], "merge": "<"}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads words without quotes as PLAIN says."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern in PLAIN.items():
    Loader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern.pattern})$"), list(STARTS[tag.removeprefix(CORE)]))


def unquoted(text: str) -> Any:
    """The value of a text if it had no quotes, such as 8 for '8'. Raises ValueError for a number that is too large."""
    tag = next((tag for tag, pattern in PLAIN.items() if pattern.fullmatch(text)), CORE + "str")
    return _value(tag, text)


def _value(tag: str, text: str) -> Any:
    """The value of a word of a type. Raises ValueError for a number that is too large."""
    word = text.lower()
    match tag.removeprefix(CORE):
        case "null":
            return None
        case "bool":
            return word == "true"
        case "int":
            return int(word, 0 if word[:2] in ("0o", "0x") else 10)
        case "float":
            value = float(word.replace(".inf", "inf").replace(".nan", "nan"))
            if math.isinf(value) and "inf" not in word:
                raise ValueError(text)
            return value
    return text


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes every text that `Loader` would not read as a text, such as '1e-3'."""


Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + Loader.yaml_implicit_resolvers.get(first, [])
    for first in yaml.SafeDumper.yaml_implicit_resolvers.keys() | Loader.yaml_implicit_resolvers.keys()
}


def dump(data: dict[str, Any]) -> str:
    """`data` as YAML, with its keys in order. Reading it gives `data` again."""
    text = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    assert isinstance(text, str)
    return text


class YamlFile:
    """A mapping read from a YAML file.

    Attributes:
        data: The values.
        lines: The line (from 1) of every value, by the keys that lead to it.

    Raises:
        UserError: The file is not YAML, not a mapping, or has a key twice. The message names file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        self.values = 0
        try:
            text = read_yaml_text(path, links=True)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from None
        try:
            node = Loader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise UserError(f"{path}:{line}: not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, ValueError) as error:  # a character that YAML does not allow
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            raise UserError(f"{path}:{line}: not valid YAML: {getattr(error, 'reason', error)}") from None
        except RecursionError:
            raise UserError(f"{path}:1: nested too deeply") from None
        self.data = {} if node is None else self._construct(node, (), 0)
        if not isinstance(self.data, dict):
            found = "a list" if isinstance(self.data, list) else shown(self.data)
            raise UserError(f"{path}:1: expected keys and values, found {found}")

    def _construct(self, node: yaml.Node, key: Key, depth: int) -> Any:
        self.lines[key] = node.start_mark.line + 1
        self.values += 1
        if self.values > MOST_VALUES:
            self.refuse(key[:1], f"more than {MOST_VALUES:,} values, counting what aliases repeat")
        if depth > DEEPEST:
            self._refuse_node(node, f"nested more than {DEEPEST} levels deep; does an alias contain itself?")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == CORE + "seq":
            return [self._construct(child, (*key, i), depth + 1) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == CORE + "map":
            return self._mapping(node, key, depth)
        return self._refuse_tag(node)

    def _mapping(self, node: yaml.MappingNode, key: Key, depth: int) -> dict[str | int, Any]:
        """The keys and values of a mapping. Its own keys win over merged ones (`<<: *alias`)."""
        merged: dict[str | int, Any] = {}
        own: dict[str | int, yaml.Node] = {}
        lines: dict[str | int, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            merges = key_node.tag == CORE + "merge"
            name = "<<" if merges else self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(name, str | int) or isinstance(name, bool):
                self._refuse_node(key_node, "a key must be a plain word")
            if str(name) in lines:
                self._refuse_node(key_node, f"key '{name}' is already in line {lines[str(name)]}")
            lines[str(name)] = line
            if merges:
                merged = self._merged(value_node, key, depth)
            else:
                own[name] = value_node
        for name, value_node in own.items():
            merged[name] = self._construct(value_node, (*key, name), depth + 1)
            self.lines[(*key, name)] = lines[str(name)]
        return merged

    def _merged(self, node: yaml.Node, key: Key, depth: int) -> dict[str | int, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str | int, Any] = {}
        for source in reversed(sources):  # the first wins
            if not isinstance(source, yaml.MappingNode):
                self._refuse_node(source, "'<<' should be an alias of keys and values, or a list of such")
            found |= self._construct(source, key, depth + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        tag, text = node.tag, node.value
        if tag == CORE + "str":
            return text
        if tag not in PLAIN:
            self._refuse_tag(node)
        if not PLAIN[tag].fullmatch(text):
            self._refuse_node(node, f"{shown(text)} does not fit its tag {tag.replace(CORE, '!!')}")
        try:
            return _value(tag, text)
        except ValueError:
            self._refuse_node(node, f"too large for a number: {shown(text)}")

    def _refuse_tag(self, node: yaml.Node) -> NoReturn:
        self._refuse_node(node, f"a tag that means nothing here: {node.tag.replace(CORE, '!!')}")

    def _refuse_node(self, node: yaml.Node, message: str) -> NoReturn:
        raise UserError(f"{self.path}:{node.start_mark.line + 1}: {message}")

    def line(self, key: Key) -> int:
        """The line of the value at `key`, or of the nearest value around it that is in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def refuse(self, key: Key, message: str) -> NoReturn:
        """Raises UserError that names the file and the line of `key`."""
        raise UserError(f"{self.path}:{self.line(key)}: {message}")
