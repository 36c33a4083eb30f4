"""A user's Python file. It is parsed, never imported, so that a grid can be checked without torch."""

import ast
from pathlib import Path
from typing import NoReturn

from mtlcluster.errors import UserError, nearest


class PythonFile:
    """A parsed Python file.

    Attributes:
        path: The file.
        functions: The functions at its top level, by name.
        classes: The classes at its top level, by name.

    Raises:
        UserError: The file can't be read or is not Python. The message names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            tree = ast.parse(path.read_text("utf-8"), str(path))
        except SyntaxError as error:
            raise UserError(f"{path}:{error.lineno}: not Python: {error.msg}") from None
        except (UnicodeDecodeError, ValueError) as error:
            raise UserError(f"{path}: not Python: {error}") from None
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from None
        self.functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def function(self, name: str) -> ast.FunctionDef:
        """The function `name`. Raises UserError with the nearest name."""
        if name not in self.functions:
            raise UserError(f"{self.path}: defines no function '{name}'{nearest(name, self.functions)}")
        return self.functions[name]

    def class_(self, name: str) -> ast.ClassDef:
        """The class `name`. Raises UserError with the nearest name."""
        if name not in self.classes:
            raise UserError(f"{self.path}: defines no class '{name}'{nearest(name, self.classes)}")
        return self.classes[name]

    def refuse(self, node: ast.AST, message: str) -> NoReturn:
        """Raises UserError that names the line of `node`."""
        raise UserError(f"{self.path}:{getattr(node, 'lineno', 1)}: {message}")
