"""A user's Python file, parsed and never imported, so that what names it is checked without torch."""

import ast
from pathlib import Path

from mtlcluster.errors import UserError


def parse(path: Path) -> ast.Module:
    """Raises UserError for what is no Python, with the line."""
    try:
        return ast.parse(path.read_text("utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: not Python: {error.msg}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not Python: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
