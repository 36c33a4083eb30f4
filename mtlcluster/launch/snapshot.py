"""code/<hash>/: the library and the job as they were at a submission; never changed, and the same content kept once."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import mtlcluster
from mtlcluster.config.job_file import JobFile
from mtlcluster.sweep.files import flush, new_folder

SOURCES = {".py", ".yaml", ".yml", ".json", ".txt", ".toml", ".sh", ".cfg"}
OWN_METHODS = "own_methods"      # where methods of one's own are kept, wherever they came from
LARGEST = 2**20             # bytes; what is larger is data, not code


@dataclass(frozen=True)
class Snapshot:
    """Code that is to be kept: its files by their path inside the snapshot, and the folders that they come from."""

    hash: str
    files: dict[str, bytes]
    folders: tuple[Path, ...]


def take(job: JobFile, methods: Iterable[Path] = ()) -> Snapshot:
    """Reads the library and the job's folder: jobs/ as a whole, of a lone job file that file and the .py beside it;
    and the files of methods of one's own, each of another name.
    """
    library = Path(mtlcluster.__file__).parent
    files = _sources(library, library.parent)
    if job.file.parts[0] == "jobs":
        folder = job.root / "jobs"
        files |= _sources(folder, job.root)
    else:
        folder = job.root / job.file.parent
        files |= {str(p.relative_to(job.root)): p.read_bytes() for p in sorted(folder.glob("*.py"))}
    files |= {f"{OWN_METHODS}/{path.name}": path.read_bytes() for path in methods}
    return Snapshot(_digest(files), files, (folder, library))


def library_hash() -> str:
    """Tells this very version of mtlcluster from any other."""
    library = Path(mtlcluster.__file__).parent
    return _digest(_sources(library, library.parent))


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()[:12]


def keep(snapshot: Snapshot, code: Path) -> None:
    """Writes code/<hash>/ unless it is there already. To be called with the sweep locked."""
    if (code / snapshot.hash).is_dir():
        return
    commits, diffs = zip(*(_git(folder) for folder in snapshot.folders), strict=True)
    notes = {"commit.txt": "".join(commits).encode(), "diff.patch": "".join(diffs).encode()}
    with new_folder(code) as beside:
        for name, content in (snapshot.files | notes).items():
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        flush(beside / name for name in snapshot.files | notes)
        beside.rename(code / snapshot.hash)


def _sources(folder: Path, root: Path) -> dict[str, bytes]:
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            path = Path(place, name)
            if path.suffix in SOURCES and path.is_file() and path.stat().st_size <= LARGEST:
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


def _git(folder: Path) -> tuple[str, str]:
    """What git says of `folder`: commit, branch and whether it is changed; and the changes of what it tracks there."""

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")

    try:
        commit = ask("rev-parse", "HEAD").strip()
        branch = ask("rev-parse", "--abbrev-ref", "HEAD").strip()
        state = "changed" if ask("status", "--porcelain", "--", ".").strip() else "clean"
        diff = ask("diff", "HEAD", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        commit, branch, state, diff = "unknown", "unknown", "not under git, or without a commit", ""
    return f"folder: {folder}\ncommit: {commit}\nbranch: {branch}\nstate: {state}\n\n", diff
