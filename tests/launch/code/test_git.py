"""Commit and patch are right whatever the user's settings of git are, and the user is told what git can't do."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import mtlcluster
from mtlcluster.config.job_file import find_job
from mtlcluster.launch.code import snapshot
from mtlcluster.sweep.folder import Sweep

SETTINGS = {
    "an external diff": {"diff.external": "echo X"},
    "colours": {"color.ui": "always", "color.diff": "always", "color.status": "always"},
    "a pager": {"core.pager": "less -R; false", "pager.diff": "true"},
    "other prefixes": {"diff.noprefix": "true"},
    "mnemonic prefixes": {"diff.mnemonicPrefix": "true"},
    "paths from the folder": {"diff.relative": "true"},
    "no context": {"diff.context": "0", "diff.interHunkContext": "0"},
    "words": {"diff.wordRegex": ".", "diff.wsErrorHighlight": "all", "diff.colorMoved": "zebra"},
    "copies": {"diff.renames": "copies", "diff.algorithm": "patience", "diff.suppressBlankEmpty": "true"},
    "an order of files": {"diff.orderFile": "/nowhere"},
    "submodules in words": {"diff.submodule": "log", "status.submoduleSummary": "true"},
    "no untracked files": {"status.showUntrackedFiles": "no", "status.short": "true", "status.branch": "true"},
    "a file system monitor": {"core.fsmonitor": "false; sleep 600"},
    "signatures": {"log.showSignature": "true", "gpg.program": "false", "log.follow": "true", "log.date": "relative"},
    "aliases": {"alias.diff": "!false", "alias.status": "!false"},
}
VARIABLES = {
    "another repository": {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere"},
    "another index": {"GIT_INDEX_FILE": "/nowhere/index"},
    "an external diff": {"GIT_EXTERNAL_DIFF": "echo X"},
    "a pager": {"GIT_PAGER": "false", "PAGER": "false", "LESS": "X"},
    "options": {"GIT_DIFF_OPTS": "--unified=0", "GIT_LITERAL_PATHSPECS": "0", "GIT_ICASE_PATHSPECS": "1"},
    "settings": {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "diff.external", "GIT_CONFIG_VALUE_0": "echo X"},
    "another language": {"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"},
    "traces": {"GIT_TRACE": "1", "GIT_TRACE2": "1"},
}


def run(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "LC_"))}
    environment = {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(project) -> Path:
    """A project under git, with changed and moved files."""
    (project / "jobs" / "picture.bin").write_bytes(bytes(range(256)))
    (project / "jobs" / "latin.txt").write_bytes(b"caf\xe9\nwith two lines\n")
    (project / "jobs" / "crlf.txt").write_bytes(b"one\r\ntwo\r\n")
    (project / "jobs" / "ends.txt").write_bytes(b"no line break")
    (project / "jobs" / "moved.txt").write_text("many lines\n" * 20)
    (project / ".gitattributes").write_text("*.bin diff=picture\n*.py diff=python\n")
    run(project, "init", "-q", "-b", "trunk")
    run(project, "add", ".")
    run(project, "commit", "-qm", "first")
    change(project, "tiny.py", "crlf.txt", "ends.txt")
    (project / "jobs" / "moved.txt").rename(project / "jobs" / "there.txt")
    return project


class Kept(NamedTuple):
    """What code/<hash>/ holds about its commit, and what `submit` said about it."""

    commits: str
    patches: dict[str, bytes]
    said: list[str]


@pytest.fixture
def keep(project, tmp_path, monkeypatch):
    """Keeps the code of the project's job. The library is a small one, not under git."""
    (tmp_path / "installed" / "mtlcluster").mkdir(parents=True)
    monkeypatch.setattr(mtlcluster, "__file__", str(tmp_path / "installed" / "mtlcluster" / "__init__.py"))

    def keep_it() -> Kept:
        code = snapshot.take(find_job("tiny", project))
        said = snapshot.keep(code, tmp_path / "code")
        folder = tmp_path / "code" / code.hash
        patches = {path.name: path.read_bytes() for path in folder.glob("*.patch")}
        return Kept((folder / "commit.txt").read_text(), patches, said or [])

    return keep_it


def change(project: Path, *names: str) -> None:
    for name in names:
        path = project / "jobs" / name
        path.write_bytes(("# changed é\n".encode("latin-1" if name == "latin.txt" else "utf-8")) + path.read_bytes())


def assert_is_patch(recorded: Kept, project: Path) -> None:
    """The patch, applied to the named commit, gives the files as they are."""
    commit = run(project, "rev-parse", "HEAD")
    assert f"commit: {commit}\nbranch: trunk\nstate: changed\n" in recorded.commits
    assert recorded.said == []
    clean = project.parent / "clean"
    run(project.parent, "clone", "-q", str(project), str(clean))
    patch = project.parent / "kept.patch"
    patch.write_bytes(recorded.patches["diff.patch"])
    run(clean, "apply", "--check", str(patch))
    run(clean, "apply", str(patch))
    for name in ("tiny.py", "crlf.txt", "ends.txt", "picture.bin", "latin.txt"):
        assert (clean / "jobs" / name).read_bytes() == (project / "jobs" / name).read_bytes(), name
    assert not (clean / "jobs" / "moved.txt").exists()


@pytest.mark.parametrize("setting", SETTINGS)
def test_whatever_is_set_for_git_the_patch_applies(repository, keep, setting):
    for key, value in SETTINGS[setting].items():
        subprocess.run(["git", "config", "--global", key, value], check=True)
    assert_is_patch(keep(), repository)


@pytest.mark.parametrize("variables", VARIABLES)
def test_whatever_the_environment_says_the_patch_applies(repository, keep, monkeypatch, variables):
    for name, value in VARIABLES[variables].items():
        monkeypatch.setenv(name, value)
    assert_is_patch(keep(), repository)


def test_drivers_that_turn_files_into_text_have_no_part_in_it(repository, keep):
    for key, value in {"diff.picture.textconv": "od -c", "diff.python.command": "echo X"}.items():
        subprocess.run(["git", "config", "--global", key, value], check=True)
    change(repository, "picture.bin")
    assert_is_patch(keep(), repository)


def test_a_text_in_another_encoding_stays_as_it_is(repository, keep):
    change(repository, "latin.txt")
    assert_is_patch(keep(), repository)


def test_every_repository_has_a_patch_of_its_own(repository, keep, tmp_path):
    """Modules beside the job belong to the same repository. A link may lead to another one."""
    other = tmp_path / "other"
    (other / "lib").mkdir(parents=True)
    (other / "lib" / "__init__.py").write_text("A = 1\n")
    run(other, "init", "-q", "-b", "main")
    run(other, "add", ".")
    run(other, "commit", "-qm", "first")
    (other / "lib" / "__init__.py").write_text("A = 2\n")
    (repository / "linked").symlink_to(other / "lib")
    (repository / "helper.py").write_text("")
    with open(repository / "jobs" / "tiny.py", "a") as job:
        job.write("import linked, helper\n")
    recorded = keep()
    assert recorded.said == []
    assert recorded.patches.keys() == {"diff.patch", "diff-2.patch"}
    assert b"a/lib/__init__.py" in recorded.patches["diff-2.patch"]
    assert b"linked" in recorded.patches["diff.patch"]
    assert recorded.commits.count("commit: ") == 3


def no_commit(project: Path) -> str:
    run(project, "update-ref", "-d", "HEAD")
    return "does not have any commits yet"


def gone_worktree(project: Path) -> str:
    (project / ".git").rename(project / "moved")
    (project / ".git").write_text("gitdir: /nowhere/.git/worktrees/x\n")
    return "not a git repository: /nowhere"


def broken_config(project: Path) -> str:
    (project / ".git" / "config").write_text("[core\n")
    return "bad config line 1"


def broken_index(project: Path) -> str:
    (project / ".git" / "index").write_bytes(b"DIRC garbage")
    return "index file"


def missing_objects(project: Path) -> str:
    for path in (project / ".git" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    return "bad object HEAD"


def somebody_elses(project: Path) -> str:
    for path in (project, project / ".git"):
        os.chown(path, 12345, 12345)
    return "dubious ownership"


def bare(project: Path) -> str:
    run(project, "config", "core.bare", "true")
    return "must be run in a work tree"


def huge(project: Path) -> str:
    (project / "jobs" / "latin.txt").write_text("".join(f"# {n:0100}\n" for n in range(110_000)))
    return "git diff prints more than 10 MB"


FAILURES = [no_commit, gone_worktree, broken_config, broken_index, missing_objects, bare, huge]
if os.getuid() == 0:
    FAILURES.append(somebody_elses)


@pytest.mark.parametrize("damage", FAILURES)
def test_what_git_cannot_do_is_in_its_own_words(repository, keep, damage):
    words = damage(repository)
    recorded = keep()
    assert [words in said for said in recorded.said] == [True]
    assert words in recorded.commits


def test_a_git_that_hangs_is_not_waited_for(repository, keep, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nsleep 600 &\nsleep 600\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    from mtlcluster.launch.code import git

    monkeypatch.setattr(git, "GIT_TIMEOUT", 0.5)
    assert "took longer than" in keep().said[0]


def test_without_git_it_is_said_where_there_is_a_repository(repository, keep, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "HOME"))
    recorded = keep()
    assert recorded.said[0].endswith(f"{repository / 'jobs'}: git: No such file or directory")
    assert recorded.commits.count("state: git: No such file or directory") == 1
    assert recorded.commits.count("state: not under git") == 1  # the library


def test_submit_says_what_git_said_and_keeps_it(repository, make_grid, fake_child, submit_locally, capsys):
    (repository / ".git" / "config").write_text("[core\n")
    sweep: Sweep = submit_locally(make_grid(grid={"data.path": ["fine"]})).sweep
    said = capsys.readouterr().out
    assert "the commit or the changes of the code are not fully known: " in said
    assert "bad config line 1" in said
    [code] = sweep.code.iterdir()
    assert "state: fatal: bad config line 1" in (code / "commit.txt").read_text()
