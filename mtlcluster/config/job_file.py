"""Job files, such as `jobs/digits.py`. They are found and parsed, never imported: a grid is checked without torch."""

import ast
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from mtlcluster.errors import UserError, nearest, shown
from mtlcluster.pydantic_errors import Key, first_mistake
from mtlcluster.python_file import PythonFile

OWN_MODULES = "own_modules"  # a folder of a code snapshot: modules that have the name of an installed one

# Types of options that are known without importing the job: their values are checked before anything is submitted.
TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(frozen=True)
class JobFile:
    """The place of a job, and the options that its data and its model take.

    Attributes:
        root: The project's folder. It is the one that is snapshotted.
        file: The job file, relative to `root`.
        function: The function that builds the problem.
        options: For "data" and "model", the fields of the dataclass in the function's signature, each with its type as
            it is written there. None if the signature does not name a dataclass of the same file.
    """

    root: Path
    file: Path
    function: str
    options: dict[str, dict[str, str] | None]

    @property
    def reference(self) -> str:
        """The job as config.yaml of a sweep's run names it: path inside the code snapshot, and function."""
        return f"{self.file.as_posix()}:{self.function}"

    def check(self, section: str, values: dict[str, Any]) -> tuple[str, str] | None:
        """The first option that the job does not know or would refuse, and a sentence about it.

        Args:
            section: "data" or "model".
            values: The options of that section.
        """
        known = self.options[section]
        if known is None:
            return None
        for key, value in values.items():
            if key not in known:
                where = f"the {section} of {self.file}"
                return key, f"unknown option '{key}' of {where}{nearest(key, known) or ', which takes none'}"
            try:
                _converted(known[key], value)
            except ValueError as error:
                return key, f"{section}.{key} {error}, found {shown(value)}"
        return None

    def first_mistake(self, data: dict[str, Any], model: dict[str, Any]) -> tuple[Key, str] | None:
        """The keys that lead to the first wrong option of `data` and `model`, and a sentence about it."""
        for section, values in (("data", data), ("model", model)):
            if mistake := self.check(section, values):
                return (section, mistake[0]), mistake[1]
        return None

    def converted(self, dotted_key: str, value: Any) -> Any:
        """An option's value as the job will see it, such as 8 for '8' if the option is an `int`."""
        section, _, key = dotted_key.partition(".")
        annotation = (self.options.get(section) or {}).get(key)
        return value if annotation is None else _converted(annotation, value)


def find_job(job: str, beside: Path) -> JobFile:
    """Finds a job by its name in a configuration.

    Args:
        job: `digits` is jobs/digits.py in the nearest folder at or above `beside` that has a jobs/.
            `path/to/file.py:build` is a path relative to `beside`, and a function.
        beside: The folder of the configuration.

    Raises:
        UserError: The file is missing, is not Python, or lacks the function.
    """
    place, _, function = job.partition(":")
    if place.endswith(".py"):
        path = (beside / Path(place).expanduser()).resolve()
        root = _root_of(path, beside.resolve())
    else:
        root, path = _named_job(place, beside)
    if not path.is_file():
        raise UserError(f"job '{job}': there is no file {path}")
    return parse_job(root, path.relative_to(root), function or "build")


def _root_of(path: Path, beside: Path) -> Path:
    """The project's root: the folder above the jobs/ that holds a job file, else the folder above the file's.

    A jobs/ far above does not count if the whole project lies in it, as in ~/jobs/project/.
    """
    for folder in path.parents:
        if folder.name == "jobs" and (folder == path.parent or not beside.is_relative_to(folder)):
            return folder.parent
    return path.parent.parent


def _named_job(name: str, beside: Path) -> tuple[Path, Path]:
    beside = beside.resolve()
    for folder in (beside, *beside.parents):
        if (folder / "jobs").is_dir():
            break
    else:
        raise UserError(f"job '{name}': no folder jobs/ at or above {beside}")
    jobs = folder / "jobs"
    for path in (jobs / f"{name}.py", jobs / name / "__init__.py"):
        if path.is_file():
            return folder, path
    known = [path.stem for path in jobs.glob("[!_]*.py")] + [path.parent.name for path in jobs.glob("*/__init__.py")]
    raise UserError(f"job '{name}': there is no {jobs / name}.py{nearest(name, known)}")


def import_path(root: Path, file: Path) -> list[Path]:
    """The folders in which a job's imports are looked for first, in a project and in a code snapshot alike."""
    # A package's folder is left out: its `data.py` must not hide another module `data`.
    beside = file.parent.parent if file.name == "__init__.py" else file.parent
    return list(dict.fromkeys([root / OWN_MODULES, root, root / beside, root / "src"]))


def asked_code(root: Path, names: Iterable[str]) -> list[Path]:
    """The files and folders that a grid's `code` adds to the code of its runs.

    Raises:
        UserError: One is missing or outside the project.
    """
    found = [Path(os.path.normpath(root / Path(name).expanduser())) for name in names]
    for name, path in zip(names, found, strict=True):
        if not path.is_relative_to(root):
            raise UserError(f"code: {name} is not in {root}, the folder of the project")
        if not (path.is_file() or path.is_dir()):
            raise UserError(f"code: there is no file or folder {path}")
    return found


def parse_job(root: Path, file: Path, function: str) -> JobFile:
    """Parses the job file at `root`/`file`. Raises UserError if it is not Python or lacks the function."""
    source = PythonFile(root / file)
    arguments = source.function(function).args
    parameters = {a.arg: a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    options = {section: _option_names(section, parameters, source.classes) for section in ("data", "model")}
    return JobFile(root, file, function, options)


def _option_names(
    section: str, parameters: dict[str, ast.expr | None], classes: dict[str, ast.ClassDef]
) -> dict[str, str] | None:
    if section not in parameters:
        return {}
    annotation = parameters[section]
    if not isinstance(annotation, ast.Name) or annotation.id not in classes or classes[annotation.id].bases:
        return None
    body = classes[annotation.id].body
    fields = [node for node in body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: ast.unparse(node.annotation) for node in fields if isinstance(node.target, ast.Name)}


def _converted(annotation: str, value: Any) -> Any:
    """Converts `value` as the job will. Other types than those in TYPES, and None, leave it as it is.

    Args:
        annotation: The option's type as it is written, such as `int` or `float | None`.

    Raises:
        ValueError: The value does not fit. The message says what it should be.
    """
    names = [name.strip() for name in annotation.split("|")]
    types = [TYPES[name] for name in names if name in TYPES]
    if len(types) + names.count("None") < len(names) or (value is None and "None" in names) or type(value) in types:
        return value
    if isinstance(value, str) and value.startswith(("~", "$")):  # the job expands it on the machine where it runs
        return value
    words = "should be null"
    for kind in reversed(types):
        try:
            return _reader(kind).validate_python(value)
        except pydantic.ValidationError as error:
            words = first_mistake(error, pydantic.BaseModel)[1]
    raise ValueError(words)


@functools.cache
def _reader(kind: type) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)
