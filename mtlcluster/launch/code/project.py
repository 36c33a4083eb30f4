"""Collects the part of a project that its runs need: the job, what the job imports, and what the grid asks for."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mtlcluster
from mtlcluster.config.job_file import OWN_MODULES, JobFile
from mtlcluster.errors import UserError
from mtlcluster.launch.code.imports import Imports, is_called_as_installed, is_package, walk
from mtlcluster.processes.pythonpath import users

SOURCES = {".py", ".yaml", ".yml", ".json", ".txt", ".toml", ".sh", ".cfg"}
LARGEST = 2**20  # bytes of a file; a larger one is data, not code
MOST = 20 * 2**20  # bytes of all files of a project together
OWN_METHODS = "own_methods"  # the folder of the user's own methods in a snapshot, wherever they came from
NOT_MISSED = {"", ".md", ".rst", ".ipynb", ".pyc", ".pyi"}  # files that no program reads
NAMED = 5  # files in one sentence


@dataclass
class Project:
    """The collected part of a project.

    Attributes:
        files: The contents of the files, by their path in the snapshot.
        unused: The paths of files in jobs/ that this job does not import.
        places: The files and folders that they come from.
        remarks: Lines for the user about them.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    places: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def collect(job: JobFile, methods: Iterable[Path] = (), asked: Sequence[Path] = ()) -> Project:
    """Reads the files that the runs of a job need.

    These are all of jobs/ (or a job file elsewhere and the .py files beside it), the files of the user's own methods,
    whatever these import from the project, and what the grid asks for.

    Args:
        job: The job.
        methods: The files of the user's own methods. No two have the same name.
        asked: The files and folders that the grid asks for.

    Raises:
        UserError: A file can't be read, or there is too much.
    """
    methods, folder = list(methods), job.root / job.file.parent
    in_jobs = job.file.parts[0] == "jobs"
    imports = Imports(job.root, job.file)
    also = [file for path in asked for file in _files(path)]
    imports.follow([*_of_job(job), *methods, *(file for file in also if file.suffix == ".py")])
    beside = walk(job.root / "jobs") if in_jobs else sorted(folder.glob("[!.]*.py"))
    found = dict.fromkeys(beside, "jobs" if in_jobs else "")
    for file in (file for package in imports.packages for file in walk(package)):
        found.setdefault(file, "")
    found |= dict.fromkeys(imports.modules, "")
    found |= dict.fromkeys(also, "asked")
    places = [job.root / "jobs" if in_jobs else folder, *imports.packages, *imports.modules, *asked]
    project = Project(places=[place for place in places if not {*place.parents} & {*places}])
    contents = _read(job.root, found, project.remarks)
    apart = {top for top in {file.relative_to(job.root).parts[0] for file in contents} if _is_apart(job, top, imports)}
    for file, content in contents.items():
        inside = file.relative_to(job.root)
        name = str(Path(OWN_MODULES, inside) if inside.parts[0] in apart else inside)
        project.files[name] = content
        if found[file] == "jobs" and file not in imports.followed:
            project.unused.add(name)
    project.files |= {f"{OWN_METHODS}/{path.name}": path.read_bytes() for path in methods}
    project.remarks += _used_in_place(imports)
    return project


def _of_job(job: JobFile) -> list[Path]:
    """The job's own files: one file, or those of its package."""
    file = job.root / job.file
    return [path for path in walk(file.parent) if path.suffix == ".py"] if file.name == "__init__.py" else [file]


def _files(path: Path) -> Iterable[Path]:
    return walk(path) if path.is_dir() else [path]


def _read(root: Path, found: dict[Path, str], remarks: list[str]) -> dict[Path, bytes]:
    """The contents of the files that are code or were asked for, as far as there is room.

    Args:
        root: The project's root.
        found: The files, each with why it was found: "jobs", "asked" or "".
        remarks: Gets a line about what is left out.
    """
    left: dict[str, list[str]] = {}
    contents: dict[Path, bytes] = {}
    room = MOST
    # Files that the runs can't do without come first.
    for file, kind in sorted(found.items(), key=lambda item: (item[1] != "asked", item[0].suffix != ".py", item[0])):
        name, size = shown(file.relative_to(root)), _size(file)
        if kind != "asked" and file.suffix in NOT_MISSED:
            continue
        if why := _why_not(file, kind, size, room):
            left.setdefault(why, []).append(name)
            continue
        try:
            contents[file] = file.read_bytes()
            room -= size
        except OSError as error:
            left.setdefault(f"because it can't be read ({error.strerror or error})", []).append(name)
    for why, names in left.items():
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        take = f"; `code: [{names[0]}]` in the grid takes it"
        remarks.append(f"not in the code of the runs, {why}: {', '.join(names[:NAMED])}{more}{take}")
    return contents


def _why_not(file: Path, kind: str, size: int, room: int) -> str:
    """Why a file is left out; "" if it is taken. Raises UserError if it can be neither taken nor left out."""
    if kind != "asked":
        if file.suffix not in SOURCES:
            return f"because its name ends in none of {' '.join(sorted(SOURCES))}"
        if kind == "jobs" and file.suffix == ".json":
            return "because .json may be data or credentials"
        if size > LARGEST:
            return "because it is larger than 1 MB"
        if size > room and file.suffix != ".py":
            return f"because all together would be more than {MOST // 2**20} MB"
    if size > room:
        raise UserError(f"{file}: with it the code comes to more than {MOST // 2**20} MB; keep data apart")
    return ""


def shown(name: str | Path) -> str:
    """A file's name for a sentence, whatever bytes it is made of."""
    return os.fsencode(name).decode(errors="replace")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; it should go into the code of the runs") from None


def _is_apart(job: JobFile, top: str, imports: Imports) -> bool:
    """True if a module or package in the root has the name of an installed one.

    Then the worker must find the installed one. The job must find the one in the root, as it does in the project.
    """
    path = job.root / top
    if top == job.file.parts[0] or not (path.suffix == ".py" or is_package(path)):
        return False
    return is_called_as_installed(path.stem, imports.places)


def _used_in_place(imports: Imports) -> list[str]:
    """Sentences about code that the runs use and that is not in the snapshot."""
    said = [
        f"{name} ({place}) is installed in editable mode: the runs use it as it is when they run"
        for name, place in sorted(imports.editable.items())
    ]
    library = Path(mtlcluster.__file__).parents[1]  # of which the runs have a copy
    if entries := [entry for entry in users() if Path(entry) != library]:
        where = os.pathsep.join(entries)
        said.append(f"PYTHONPATH stays behind the code of the runs, which use it as it is when they run: {where}")
    return said
