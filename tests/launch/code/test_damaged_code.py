"""A damaged code/<hash>/, as a file system leaves it that purges old files: repaired, or refused before a loss."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from mtlcluster.config.run import read_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch import sweep_file
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_module import run_module
from mtlcluster.launch.submit import submit
from mtlcluster.remote import agent
from mtlcluster.sweep.folder import Sweep


def unlink(*names: str):
    return lambda code: [(code / name).unlink() for name in names]


def cut(name: str):
    return lambda code: (code / name).write_bytes((code / name).read_bytes()[:9])


def all_files(code: Path) -> None:
    for path in [path for path in code.rglob("*") if path.is_file()]:
        path.unlink()


def garbled_list(code: Path) -> None:
    (code / "files.sha256").write_bytes(b"\xff\0")
    (code / "jobs" / "tiny.py").unlink()


def instead(make, *names: str):
    """Puts something else in the place of files or folders."""

    def damage(code: Path) -> None:
        for path in [code / name for name in names]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            make(path)

    return damage


DAMAGES = {
    "a file of the library is gone": unlink("mtlcluster/training/commands/child.py"),
    "a small one, too": unlink("mtlcluster/methods/__init__.py", "mtlcluster/_entry.sh"),
    "the job is gone": unlink("jobs/tiny.py"),
    "a module that it imports is cut off": cut("helper/inner.py"),
    "a file of the library is empty": lambda code: (code / "mtlcluster/worker/worker.py").write_bytes(b""),
    "a folder is gone": lambda code: shutil.rmtree(code / "mtlcluster" / "sweep"),
    "the list is gone with the job": unlink("files.sha256", "jobs/tiny.py"),
    "the list is garbled": garbled_list,
    "all files are gone": all_files,
    "all is gone": shutil.rmtree,
    "it is a file": instead(Path.touch, "."),
    "a file is a folder": instead(Path.mkdir, "mtlcluster/_entry.py", "files.sha256"),
    "a folder of the library is a file": instead(Path.touch, "mtlcluster/sweep"),
    "files are FIFOs": instead(os.mkfifo, "jobs/tiny.py", "files.sha256"),
}


@pytest.fixture
def kept(project, make_grid) -> tuple[Sweep, Path]:
    """A sweep and the folder of its code."""
    (project / "helper").mkdir()
    (project / "helper" / "__init__.py").write_text("from . import inner")
    (project / "helper" / "inner.py").write_text("X = 1  # and more")
    (project / "jobs" / "tiny.py").write_text("import helper\n" + (project / "jobs" / "tiny.py").read_text())
    grid = make_grid(grid={"seed": [0]})
    sweep = Sweep(project / "runs" / "sweep")
    code = snapshot.take(grid.job, grid.methods)
    snapshot.keep(code, sweep.code)
    sweep_file.write_sweep_file(sweep, grid)
    return sweep, sweep.code / code.hash


def mend(sweep: Sweep, code: Path) -> None:
    """Repairs the code, as retry, evaluate and replay do before they use it."""
    from mtlcluster.launch.code import changes

    changes.mend(sweep, [code.name])


def contents(code: Path) -> dict[str, bytes]:
    notes = {"commit.txt", "diff.patch"}
    found = {str(p.relative_to(code)): p.read_bytes() for p in code.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    return {name: content for name, content in found.items() if name not in notes}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_project_still_has_is_written_again(kept, damage):
    sweep, code = kept
    before = contents(code)
    (code / "out.txt").write_text("the job wrote this")
    DAMAGES[damage](code)
    mend(sweep, code)
    after = contents(code)
    after.pop("out.txt", None)
    assert after == before


@pytest.mark.parametrize("place", [".", "mtlcluster", "mtlcluster/worker"])
def test_nothing_is_written_through_a_link(kept, project, place):
    sweep, code = kept
    (project / "elsewhere").mkdir()
    instead(lambda path: path.symlink_to(project / "elsewhere"), place)(code)
    with pytest.raises(OSError, match="is a symbolic link, which is not followed"):
        mend(sweep, code)
    assert not list((project / "elsewhere").iterdir())


def test_what_is_whole_is_neither_written_nor_taken_for_damaged(kept, project):
    sweep, code = kept
    (code / "out.txt").write_text("the job wrote this")
    (project / "jobs" / "tiny.py").write_text("def build(): 0")
    times = {path: path.stat().st_mtime_ns for path in code.rglob("*") if path.is_file()}
    mend(sweep, code)
    assert {path: path.stat().st_mtime_ns for path in code.rglob("*") if path.is_file()} == times


@pytest.mark.parametrize("damage", [name for name in DAMAGES if "librar" not in name and "small" not in name])
def test_what_the_project_no_longer_has_is_named(kept, project, damage):
    sweep, code = kept
    for name in ("helper/inner.py", "jobs/tiny.py"):
        (project / name).write_text((project / name).read_text() + "\n# mended\n")
    DAMAGES[damage](code)
    if damage == "a folder is gone":  # which this library has as it was
        mend(sweep, code)
        return
    with pytest.raises(UserError, match=rf"{code} is damaged: .*can't be written again.*retry sweep RUN --restart"):
        mend(sweep, code)


@pytest.fixture
def failed(project, make_grid, fake_child, submit_locally):
    """A sweep of one run that has failed with a checkpoint."""
    sweep = submit_locally(make_grid(grid={"data.path": ["fails"]}))
    sweep.wait("", "failed")
    run = sweep.sweep.runs()[0]
    with open(run.folder / ".lock") as lock:  # its worker lets go of it a moment later
        fcntl.flock(lock, fcntl.LOCK_EX)
    run.checkpoints.mkdir()
    (run.checkpoints / "step-000000001.pt.sha256").write_text("")
    return sweep


def code_of(sweep: Sweep) -> Path:
    return sweep.code / read_run_config(sweep.runs()[0].config).origin.code


def test_retry_and_submit_repair_it_and_the_runs_go_on(failed, project, make_grid):
    code = code_of(failed.sweep)
    before = contents(code)
    all_files(code / "jobs")
    resubmit(failed.sweep, [failed.run("")], restart=False, say=print)
    assert contents(code) == before
    while (status := failed.status()) is None or (status.submission, status.state) != ("0002", "failed"):
        pass
    assert "the loss of task a" in status.error
    all_files(code)
    submit(make_grid(grid={"data.path": ["fails", "fine"]}), project / "runs", "local", print)
    assert contents(code) == before


def test_without_the_code_nothing_of_the_run_is_removed(failed, project):
    [run], code = failed.sweep.runs(), code_of(failed.sweep)
    (code / "jobs" / "tiny.py").unlink()
    job = project / "jobs" / "tiny.py"
    job.write_text(job.read_text() + "# mended\n")
    before = {path: path.read_bytes() for path in failed.sweep.folder.rglob("*") if path.is_file()}
    for verb in (
        lambda: resubmit(failed.sweep, [run.name], restart=False, say=print),
        lambda: run_module("evaluate", run.folder),
    ):
        with pytest.raises(UserError, match=r"jobs/tiny\.py can't be written again"):
            verb()
    text = job.read_text()
    job.unlink()  # now the code of today is gone as well
    with pytest.raises(UserError, match=r"tiny\.py: No such file"):
        resubmit(failed.sweep, [run.name], restart=True, say=print)
    before[failed.sweep.lock] = failed.sweep.lock.read_bytes()
    assert {path: path.read_bytes() for path in failed.sweep.folder.rglob("*") if path.is_file()} == before
    job.write_text(text)
    resubmit(failed.sweep, [run.name], restart=True, say=print)
    assert not run.checkpoints.exists()
    assert code_of(failed.sweep) != code


def test_evaluate_and_replay_repair_it(failed, capfd):
    [run], code = failed.sweep.runs(), code_of(failed.sweep)
    before = contents(code)
    shutil.rmtree(code / "mtlcluster")
    assert run_module("replay", run.folder) == 2
    assert "no step of this run failed" in capfd.readouterr().err
    assert contents(code) == before


def test_on_a_cluster_what_is_copied_there_repairs_it(kept, tmp_path):
    sweep, code = kept
    over_there = Sweep(tmp_path / "there" / "sweep")
    for folder in (over_there.code, over_there.folder / ".arriving-1" / "code"):
        shutil.copytree(sweep.code, folder)
    shutil.copy(sweep.grid, over_there.folder)
    all_files(over_there.code / code.name / "mtlcluster")
    agent._move_in(over_there, {"arriving": ".arriving-1", "code": code.name}, [])
    assert contents(over_there.code / code.name) == contents(code)
