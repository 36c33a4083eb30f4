"""code/<hash>/: the library and the job as they were at a submission. It never changes; equal content is kept once."""

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mtlcluster
from mtlcluster.config.job_file import JobFile
from mtlcluster.launch.code import git
from mtlcluster.launch.code.imports import walk
from mtlcluster.launch.code.project import SOURCES, collect
from mtlcluster.sweep.checksums import sha256
from mtlcluster.sweep.files import flush, make_folder, new_folder, remove, replace

LIST = "files.sha256"  # the files of a snapshot and their checksums, as `sha256sum -c` reads them


@dataclass(frozen=True)
class Snapshot:
    """Code to keep.

    Attributes:
        hash: Identifies its content.
        files: The contents of its files, by their path inside code/<hash>/.
        places: The files and folders that they come from.
        remarks: Lines for the user about what it holds and what it leaves out.
    """

    hash: str
    files: dict[str, bytes]
    places: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def take(job: JobFile, methods: Iterable[Path] = (), asked: Sequence[Path] = ()) -> Snapshot:
    """Reads the library and what the job needs of its project. For the arguments see project.collect."""
    project = collect(job, methods, asked)
    files = project.files | library_files()
    places = (*project.places, Path(mtlcluster.__file__).parent)
    return Snapshot(_digest(files), files, places, tuple(project.remarks))


def library_files() -> dict[str, bytes]:
    library = Path(mtlcluster.__file__).parent
    found = (file for file in walk(library) if file.suffix in SOURCES)
    return {str(file.relative_to(library.parent)): file.read_bytes() for file in found}


def library_hash() -> str:
    """Identifies the files of this library: it differs for any other version of mtlcluster."""
    return _digest(library_files())


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(os.fsencode(f"{name}\0{len(files[name])}\0") + files[name])
    return digest.hexdigest()[:12]


def keep(snapshot: Snapshot, code: Path) -> list[str]:
    """Writes code/<hash>/, with the sweep locked. If it exists, only what is missing or damaged is written.

    Args:
        snapshot: The code.
        code: The folder code/ of the sweep.

    Returns:
        What git could not say about it, a line each.
    """
    folder = code / snapshot.hash
    _clear(folder)
    if folder.is_dir():
        if _listed(folder) is None:
            _make_way(folder, LIST)
            replace(folder / LIST, lambda file: file.write(_list(snapshot.files)))
        mend(folder, snapshot.files)
        return []
    found = git.record(snapshot.places)
    notes = {"commit.txt": found.commits, "diff.patch": "", **found.patches}
    files = snapshot.files | {name: text.encode("utf-8", "surrogateescape") for name, text in notes.items()}
    files[LIST] = _list(snapshot.files)
    with new_folder(code) as beside:
        write(files, beside)
        flush(beside / name for name in files)
        beside.rename(folder)
    return [f"the commit or the changes of the code are not fully known: {words}" for words in found.failures]


def read(folder: Path) -> dict[str, bytes]:
    """The files of a snapshot that are there."""
    return {name: (folder / name).read_bytes() for name in _listed(folder) or [] if (folder / name).is_file()}


def write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def mend(folder: Path, present: Mapping[str, bytes], essential: Sequence[str] = ()) -> list[str]:
    """Writes missing and damaged files of a snapshot again. The others stay: running jobs may be using them.

    Args:
        folder: The snapshot, code/<hash>/.
        present: Files to take from, by path. Only those count that are as they were.
        essential: The files that must be there if the snapshot's list is missing.

    Returns:
        The files that could not be written again.
    """
    if (listed := _listed(folder)) is None:
        if _digest(present) != folder.name:  # perhaps of an older version, which kept no list
            return [name for name in essential if not (folder / name).is_file()]
        _make_way(folder, LIST)
        replace(folder / LIST, lambda file: file.write(_list(present)))
        listed = {name: checksum(content) for name, content in present.items()}
    lost = []
    for name in (name for name, was in listed.items() if not _is_whole(folder / name, was)):
        content = present.get(name)
        if content is None or checksum(content) != listed[name]:
            lost.append(name)
        else:
            _make_way(folder, name)
            replace(folder / name, functools.partial(_put, content))
    return lost


def _make_way(folder: Path, name: str) -> None:
    """Makes room for a file at `name`. Raises OSError for links, which may lead anywhere."""
    for parent in reversed(Path(name).parents):
        _clear(folder / parent)
        make_folder(folder / parent)
    if (folder / name).is_dir():
        remove(folder / name)


def _clear(place: Path) -> None:
    """Removes whatever is in the place of a folder."""
    if place.exists() and not place.is_dir():
        place.unlink()


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _list(files: Mapping[str, bytes]) -> bytes:
    return os.fsencode("".join(f"{checksum(files[name])}  {name}\n" for name in sorted(files)))


def checksums(folder: Path) -> dict[str, str]:
    """The checksums of a snapshot's files when it was kept; if it has no list, those of the files as they are."""
    if (listed := _listed(folder)) is not None:
        return listed
    return {str(file.relative_to(folder)): sha256(file) for file in walk(folder)}


def _listed(folder: Path) -> dict[str, str] | None:
    """The checksums in a snapshot's list; None if there is no list or it is damaged."""
    try:
        text = os.fsdecode((folder / LIST).read_bytes()) if (folder / LIST).is_file() else ""
    except OSError:
        return None
    lines = (line.partition("  ") for line in text.removesuffix("\n").split("\n"))
    found = {name: was for was, _, name in lines}
    return found if found and all(len(was) == 64 and name for name, was in found.items()) else None


def _is_whole(path: Path, was: str) -> bool:
    try:
        return path.is_file() and sha256(path) == was
    except OSError:
        return False


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
