"""Finds the modules of a project that a file imports. Files are parsed, never imported.

Modules are looked for where a job finds them: in the project's root, in the job's folder and in src/. Imports inside
functions count. Imports by a name that is made at run time can't be seen.
"""

import ast
import importlib.machinery
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtlcluster.config.job_file import import_path
from mtlcluster.errors import UserError
from mtlcluster.processes.pythonpath import users

MOST = 20_000  # files and folders below one folder
Statement = tuple[int, list[str], list[str]]  # of an import: leading dots, the module's name, the names taken from it


def walk(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder in a fixed order, without hidden ones and __pycache__.

    A link to a folder is followed if that is a package. A folder that may not be read is passed over.

    Raises:
        UserError: There are more files than a project of code would have.
    """
    seen, looked_at = {folder.resolve()}, 0
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:  # a folder of another user
            continue
        looked_at += len(entries)
        if looked_at > MOST:
            raise UserError(f"{folder}: more than {MOST:,} files, too many for code; keep data somewhere else")
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_file():
                yield path
            elif entry.is_dir() and (not entry.is_symlink() or is_package(path)) and path.resolve() not in seen:
                seen.add(path.resolve())
                waiting.append(path)


def is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


class Imports:
    """The modules that files import, directly and indirectly.

    Attributes:
        places: The folders in which modules are looked for.
        packages: Folders that are kept as a whole.
        modules: Single files.
        editable: Installed modules that are used where they are written, by name.
        followed: The files whose imports were followed.
    """

    def __init__(self, root: Path, job: Path) -> None:
        """job: the job's file, relative to the root."""
        self.places = import_path(root, job)
        self.jobs = root / "jobs"  # kept as a whole in any case, but this job uses only some of it
        self.packages: dict[Path, None] = {}  # dicts, because their order is fixed
        self.modules: dict[Path, None] = {}
        self.editable: dict[str, Path] = {}
        self.followed: set[Path] = set()

    def follow(self, files: Iterable[Path]) -> None:
        """Adds what these files import."""
        waiting = list(files)
        while waiting:
            file = waiting.pop()
            if file in self.followed or file.suffix != ".py":
                continue
            self.followed.add(file)
            for level, module, names in _statements(file):
                if level:
                    base = file.parents[min(level, len(file.parents)) - 1]
                    waiting += self._below(base, module, names)
                elif module[0] != "mtlcluster":
                    waiting += self._named(module, names)

    def _named(self, module: list[str], names: list[str]) -> list[Path]:
        """The files to follow for `import module`, found as Python does.

        First comes a module or package of the project, then an installed one, then a folder without __init__.py.
        """
        top, *inner = module
        for place in self.places:
            if found := self._one(place, top, inner, names):
                return found
        if top in sys.stdlib_module_names:
            return []
        if (where := _installed(top)) is not None:
            if _is_editable(where):
                self.editable[top] = where.parent
            return []
        return [file for place in self.places for file in self._below(place / top, inner, names)]

    def _one(self, place: Path, name: str, inner: list[str], names: list[str]) -> list[Path]:
        """The files to follow for the module or package `name` in `place`; none if it is not there."""
        folder = place / name
        if is_package(folder):
            if folder == self.jobs:
                return [folder / "__init__.py", *self._below(folder, inner, names)]
            self.packages[folder] = None
            return [file for file in walk(folder) if file.suffix == ".py"]
        for suffix in (*importlib.machinery.EXTENSION_SUFFIXES, ".py"):
            if (file := place / f"{name}{suffix}").is_file():
                self.modules[file] = None
                return [file]
        return []

    def _below(self, folder: Path, module: list[str], names: list[str]) -> list[Path]:
        """The same for a module inside a folder that is not kept as a whole, or for the names, which may be modules."""
        for i, part in enumerate(module):
            if found := self._one(folder, part, module[i + 1 :], names):
                return found
            folder /= part
        return [file for name in names for file in self._one(folder, name, [], [])]


def _statements(file: Path) -> Iterator[Statement]:
    """Yields the imports of a file, wherever they stand in it. A file that is not valid Python has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about '\d' in a string that is not raw
            tree = ast.parse(file.read_bytes())
        nodes = list(ast.walk(tree))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name.split("."), []
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module.split(".") if node.module else [], [alias.name for alias in node.names]


def is_called_as_installed(name: str, places: list[Path]) -> bool:
    """True if Python itself, or a package outside the project, also has a module with this name."""
    if name in sys.stdlib_module_names:
        return True
    here = {str(place) for place in places}
    elsewhere = [entry for entry in sys.path if entry and os.path.realpath(entry) not in here]
    spec = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None


def _installed(name: str) -> Path | None:
    """The file of a module that can be imported here, found without importing it. None if it has no file."""
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # the finder of an installed package may raise anything
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _is_editable(file: Path) -> bool:
    """True if an installed module is editable: it is used from the folder in which it is written.

    Such a folder is none of these: where packages are installed, a folder of PYTHONPATH, the working folder.
    """
    if not file.is_file() or {"site-packages", "dist-packages"} & {*file.parts}:
        return False
    place = file.parents[1] if file.name == "__init__.py" else file.parent
    named = [*users(), *(os.path.abspath(entry) for entry in sys.path[:1])]  # noqa: PTH100
    return str(place) not in named
