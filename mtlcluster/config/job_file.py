"""Job files (`jobs/digits.py`): found and parsed, never imported, so that a grid is checked without torch."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlcluster.errors import UserError, nearest


@dataclass(frozen=True)
class JobFile:
    """Where a job is, and which options its data and its model take.

    root: the folder that is snapshotted and that `file` is relative to. options: for `data` and `model` the names that
    the dataclass in `build`'s signature admits; None where the signature does not tell.
    """

    root: Path
    file: Path
    function: str
    options: dict[str, list[str] | None]

    @property
    def reference(self) -> str:
        """As it stands in a run's config.yaml: the path inside the code snapshot, and the function."""
        return f"{self.file.as_posix()}:{self.function}"

    def check(self, section: str, values: dict[str, Any]) -> tuple[str, str] | None:
        """The first option of `data` or `model` that the job does not know, and a sentence about it."""
        known = self.options[section]
        for key in values:
            if known is not None and key not in known:
                where = f"the {section} of {self.file}"
                return key, f"unknown option '{key}' of {where}{nearest(key, known) or ', which takes none'}"
        return None


def find_job(job: str, beside: Path) -> JobFile:
    """`digits` is jobs/digits.py in the nearest folder at or above `beside` that has a jobs/; `path/to/file.py:build`
    is relative to `beside`. Raises UserError for a file that is not there, is no Python or lacks the function.
    """
    place, _, function = job.partition(":")
    if place.endswith(".py"):
        path = (beside / Path(place).expanduser()).resolve()
        in_jobs = next((folder for folder in path.parents if folder.name == "jobs"), None)
        root = in_jobs.parent if in_jobs else path.parent.parent
    else:
        root, path = _named_job(place, beside)
    if not path.is_file():
        raise UserError(f"job '{job}': there is no file {path}")
    return parse_job(root, path.relative_to(root), function or "build")


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


def parse_job(root: Path, file: Path, function: str) -> JobFile:
    path = root / file
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: not Python: {error.msg}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not Python: {error}") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if function not in functions:
        raise UserError(f"{path}: defines no function '{function}'{nearest(function, functions)}")
    arguments = functions[function].args
    parameters = {a.arg: a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    options = {section: _option_names(section, parameters, classes) for section in ("data", "model")}
    return JobFile(root, file, function, options)


def _option_names(
    section: str, parameters: dict[str, ast.expr | None], classes: dict[str, ast.ClassDef]
) -> list[str] | None:
    if section not in parameters:
        return []
    annotation = parameters[section]
    if not isinstance(annotation, ast.Name) or annotation.id not in classes or classes[annotation.id].bases:
        return None
    body = classes[annotation.id].body
    return [node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
