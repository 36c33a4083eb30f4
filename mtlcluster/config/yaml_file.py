"""YAML read together with its line numbers, so that a mistake is reported where it stands."""

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mtlcluster.checked import Key
from mtlcluster.errors import UserError


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's reading of plain words: `1e-3` is a number, `on` and `1:30:00` are texts."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes every text that `Loader` would take for something else, such as '1e-3'."""


Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + Loader.yaml_implicit_resolvers.get(first, [])
    for first in yaml.SafeDumper.yaml_implicit_resolvers.keys() | Loader.yaml_implicit_resolvers.keys()
}


def dump(data: dict[str, Any]) -> str:
    """The YAML text that reads back as `data`, keys in their order."""
    text = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    assert isinstance(text, str)
    return text


class YamlFile:
    """A mapping read from a YAML file.

    data: the plain values; lines: the line (from 1) of every value, by the keys that lead to it.
    Raises UserError, naming file and line, for what is no YAML, no mapping, or names a key twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a text file ({error})") from None
        try:
            loader = Loader(text)
            node = loader.get_single_node()
            self.data = {} if node is None else self._construct(loader, node, ())
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise UserError(f"{path}:{line}: not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{path}:1: not valid YAML: {error}") from None
        if not isinstance(self.data, dict):
            raise UserError(f"{path}:1: expected keys and values, found a {type(self.data).__name__}")

    def _construct(self, loader: Any, node: yaml.Node, key: Key) -> Any:
        self.lines[key] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._construct(loader, child, (*key, i)) for i, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        self._refuse_duplicates(loader, node, key)
        loader.flatten_mapping(node)
        mapping = {}
        for key_node, value_node in node.value:
            name = loader.construct_object(key_node)
            if not isinstance(name, str | int):
                raise UserError(f"{self.path}:{key_node.start_mark.line + 1}: a key must be a plain word")
            mapping[name] = self._construct(loader, value_node, (*key, name))
            self.lines[(*key, name)] = key_node.start_mark.line + 1
        return mapping

    def _refuse_duplicates(self, loader: Any, node: yaml.MappingNode, key: Key) -> None:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            name, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(name, str) and name != "<<" and name in seen:
                raise UserError(f"{self.path}:{line}: key '{name}' stands already in line {seen[name]}")
            if isinstance(name, str):
                seen[name] = line

    def line(self, key: Key) -> int:
        """The line of the value at `key`, or of the nearest thing around it that the file has."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def refuse(self, key: Key, message: str) -> NoReturn:
        raise UserError(f"{self.path}:{self.line(key)}: {message}")
