"""The modules of a project that a file imports: followed by parsing, never by importing.

They are looked for where a job finds them: in the project's root, in the job's folder and in src/. Imports inside
functions count; what is imported by a name that is only made at run time can't be seen.
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

MOST = 20_000  # files and folders that are looked at below one folder
Statement = tuple[int, list[str], list[str]]  # leading dots, the module's name, and the names taken from it


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, but for hidden ones and __pycache__, in a fixed order. A link to a folder is followed
    where that is a package; a folder that may not be read is passed over.

    Raises UserError where there is more than a project of code would have.
    """
    seen, looked_at = {folder.resolve()}, 0
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:  # somebody else's, in a shared folder
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
    """What the files given to `follow` import, and what that imports in turn."""

    def __init__(self, root: Path, job: Path) -> None:
        """job: its file, from the root."""
        self.places = import_path(root, job)
        self.jobs = root / "jobs"  # kept as a whole in any case, but not all that is in it is this job's
        self.packages: dict[Path, None] = {}  # folders, to be kept as a whole
        self.modules: dict[Path, None] = {}  # single files
        self.editable: dict[str, Path] = {}  # by name: installed, but used where they are written
        self.followed: set[Path] = set()

    def follow(self, files: Iterable[Path]) -> None:
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
        """As Python does: a module or package of the project, an installed one, or a folder without __init__.py."""
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
        """The files to follow of a module or package `name` in `place`; nothing where there is none."""
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
        """The same of a module inside a folder of which not all is taken; then of the names, which may be modules."""
        for i, part in enumerate(module):
            if found := self._one(folder, part, module[i + 1 :], names):
                return found
            folder /= part
        return [file for name in names for file in self._one(folder, name, [], [])]


def _statements(file: Path) -> Iterator[Statement]:
    """The imports of a file, wherever they stand in it. What is no Python imports nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of '\d' in a text that is not raw
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
    """Whether Python, or what is installed beside the project, has a module of this name, too."""
    if name in sys.stdlib_module_names:
        return True
    here = {str(place) for place in places}
    elsewhere = [entry for entry in sys.path if entry and os.path.realpath(entry) not in here]
    spec = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None


def _installed(name: str) -> Path | None:
    """Where a module is that can be imported here, without importing it; None for a folder without __init__.py."""
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # whatever the finder of an installed package raises
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _is_editable(file: Path) -> bool:
    """Whether a module is used where it is written: neither where packages are installed, nor in a folder that
    PYTHONPATH names or that is the present one.
    """
    if not file.is_file() or {"site-packages", "dist-packages"} & {*file.parts}:
        return False
    place = file.parents[1] if file.name == "__init__.py" else file.parent
    named = [*users(), *(os.path.abspath(entry) for entry in sys.path[:1])]  # noqa: PTH100
    return str(place) not in named
