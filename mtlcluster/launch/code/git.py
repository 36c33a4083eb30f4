"""Asks git about the folders that code comes from: commit, branch and changes."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

GIT_TIMEOUT = 20.0  # seconds for one command
LARGEST = 10 * 2**20  # bytes of a diff; a longer one is left out, because a part of it would not be a patch
NOT_UNDER_GIT = "fatal: not a git repository (or any"
# Variables that name another repository than the folder's, or change the output. The user's other settings count.
IGNORED = {
    f"GIT_{name}" for name in (
        "DIR", "WORK_TREE", "INDEX_FILE", "COMMON_DIR", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "NAMESPACE",
        "PREFIX", "SHALLOW_FILE", "GRAFT_FILE", "CONFIG_PARAMETERS", "EXTERNAL_DIFF", "DIFF_OPTS", "PAGER",
        "GLOB_PATHSPECS", "NOGLOB_PATHSPECS", "ICASE_PATHSPECS",
    )
}  # fmt: skip
OWN_SETTINGS = ["--no-pager", "--literal-pathspecs", "-c", "core.fsmonitor=false", "-c", "color.ui=false"]
OWN_SETTINGS += ["-c", "diff.orderFile=/dev/null"]
STATUS = ["--porcelain", "--untracked-files=normal", "--ignore-submodules=none"]
# A patch that `git apply` takes, whatever the settings say about diffs.
PATCH = [
    "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "--full-index", "--unified=3", "--no-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=dirty",
]  # fmt: skip


class GitFailed(Exception):
    """git could not do something. The message is git's own."""


@dataclass
class Record:
    """The state of some code, as git describes it.

    Attributes:
        commits: The text of commit.txt.
        patches: The changes since the commits, by the name of the file for each.
        failures: A line for each thing that git could not do.
    """

    commits: str = ""
    patches: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def record(places: Iterable[Path]) -> Record:
    """Commit, branch, state and changes of the files and folders at `places`, separately for each repository."""
    result = Record()
    repositories: dict[Path, list[Path]] = {}
    for place in dict.fromkeys(place.resolve() for place in places):
        folder = place if place.is_dir() else place.parent
        try:
            top = Path(_ask(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
            repositories.setdefault(top, []).append(place)
        except GitFailed as error:
            _note_failure(result, place, error)
    for top, members in repositories.items():
        _describe(result, top, members)
    return result


def _describe(result: Record, top: Path, places: list[Path]) -> None:
    names = [str(place.relative_to(top)) for place in places]
    commit = branch = state = "unknown"
    diff = ""
    try:
        branch = _ask(top, "symbolic-ref", "--short", "-q", "HEAD", allowed=(0, 1)).strip() or "HEAD"
        commit = _ask(top, "log", "-1", "--no-show-signature", "--format=%H").strip()
        status = _ask(top, "status", *STATUS, "--", *names)
        state = "changed" if status.strip() else "clean"
        diff = _ask(top, "diff", *PATCH, "HEAD", "--", *names)
    except GitFailed as error:
        state = f"{state}; {error}" if state != "unknown" else str(error)
        result.failures.append(f"{top}: {error}")
    name = f"diff-{len(result.patches) + 1}.patch" if result.patches else "diff.patch"
    result.patches[name] = diff
    folders = "".join(f"folder: {place}\n" for place in places)
    result.commits += f"{folders}commit: {commit}\nbranch: {branch}\nstate: {state}\nchanges: {name}\n\n"


def _note_failure(result: Record, place: Path, error: GitFailed) -> None:
    state = str(error)
    if state.startswith(NOT_UNDER_GIT) or (state.startswith("git: ") and not _has_git(place)):
        state = "not under git"
    else:
        result.failures.append(f"{place}: {state}")
    result.commits += f"folder: {place}\ncommit: unknown\nbranch: unknown\nstate: {state}\n\n"


def _has_git(place: Path) -> bool:
    return any((folder / ".git").exists() for folder in (place, *place.parents))


def _ask(folder: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
    """Runs a git command in a folder and returns its output. Raises GitFailed."""
    command = ["git", *OWN_SETTINGS, "-C", str(folder), *arguments]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise GitFailed(f"git: {error.strerror or error}") from None
        late = Timer(GIT_TIMEOUT, _kill, [process])
        late.start()
        assert process.stdout is not None
        with process.stdout:
            printed = process.stdout.read(LARGEST + 1)
        if len(printed) > LARGEST:
            _kill(process)
        code = process.wait()
        in_time = late.is_alive()
        late.cancel()
        errors.seek(0)
        words = errors.read(4096).decode(errors="replace").strip().splitlines()
    if len(printed) > LARGEST:
        raise GitFailed(f"git {arguments[0]} prints more than {LARGEST // 2**20} MB, which is left out")
    if not in_time:
        raise GitFailed(f"git {arguments[0]} took longer than {GIT_TIMEOUT:.0f} seconds")
    if code not in allowed:
        fatal = [line for line in words if line.startswith(("fatal:", "error:"))] or words[:1]
        raise GitFailed("; ".join(fatal[:2]) or f"git {arguments[0]} ended with exit status {code}")
    return printed.decode("utf-8", "surrogateescape")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process and the processes that it has started, such as a filter."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    users = {name: value for name, value in os.environ.items() if name not in IGNORED}
    return {**users, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
