"""Links in a sweep's folder are not followed: others may have put them in place of its files."""

import os
import time
from pathlib import Path

import pytest

from mtlcluster.errors import UserError
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.submit import submit
from mtlcluster.remote import status_cache
from mtlcluster.remote.ssh import Connection
from mtlcluster.remote.status_cache import LastReply
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.folder import Sweep
from mtlcluster.worker.rendezvous import _write_secret


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user with a file in it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    return tmp_path / "mine"


def as_before(mine: Path) -> bool:
    return (mine / "file").read_text() == "mine" and [*mine.rglob("*")] == [mine / "file"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(".lock", "file"), ("submissions.jsonl", "file"), ("submissions", "folder"), ("submissions/0001", "folder"),
     ("submissions/0001/worker.log", "file"), ("code", "folder")],
)  # fmt: skip
def test_submit_names_a_link_and_writes_nothing_through_it(
    make_grid, project: Path, mine: Path, name: str, kind: str
) -> None:
    place = project / "runs/sweep" / name
    place.parent.mkdir(parents=True)
    place.symlink_to(mine / "file" if kind == "file" else mine)
    with pytest.raises(UserError, match="is a symbolic link, which is not followed") as error:
        submit(make_grid(grid={"seed": [0]}), project / "runs", "local", print)
    assert str(place) in str(error.value)
    assert as_before(mine)


def test_nobody_waits_for_a_lock_file_that_is_a_fifo(make_grid, project: Path) -> None:
    (project / "runs/sweep").mkdir(parents=True)
    os.mkfifo(project / "runs/sweep/.lock")
    with pytest.raises(UserError, match=r"\.lock: is not a regular file"):
        submit(make_grid(grid={"seed": [0]}), project / "runs", "local", print)


def test_what_is_built_beside_its_place_is_new(
    make_grid, project: Path, mine: Path, fake_child, submit_locally
) -> None:
    sweep = Sweep(project / "runs/sweep")
    (sweep.folder / "code").mkdir(parents=True)
    for name in (".new", "code/.new", f".sweep.yaml.{os.getpid()}.new"):
        (sweep.folder / name).symlink_to(mine / "file" if "yaml" in name else mine)
    submit_locally(make_grid(grid={"data.path": ["fine"]})).wait("fine", "done")
    (sweep.folder / f".predictions-test.csv.{os.getpid()}.new").symlink_to(mine / "file")
    (sweep.folder / "predictions-test.csv").symlink_to(mine / "file")
    replace_text(sweep.folder / "predictions-test.csv", "id\n")
    assert as_before(mine)
    assert [path.name for path in sweep.folder.rglob("*") if path.is_symlink()] == []


def test_a_run_whose_log_is_a_link_fails_with_the_reason(
    make_grid, project: Path, mine: Path, fake_child, submit_locally
) -> None:
    local = submit_locally(make_grid(grid={"data.path": ["fails"]}))
    local.wait("fails", "failed")
    (run,) = local.sweep.runs()
    run.log.unlink()
    run.log.symlink_to(mine / "file")
    local.submitted.job_ids += resubmit(local.sweep, [run.name], False, print).job_ids
    deadline = time.monotonic() + 30
    while "symbolic link" not in (said := local.status("fails").error):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    assert "log.txt" in said
    assert as_before(mine)


def test_the_secret_for_other_nodes_is_readable_by_nobody_else(mine: Path, tmp_path: Path) -> None:
    note = tmp_path / "node.json"
    note.with_suffix(".new").symlink_to(mine / "file")
    _write_secret(note, "secret")
    assert as_before(mine)
    assert note.read_text() == "secret"
    assert note.stat().st_mode & 0o077 == 0


def test_links_that_a_cluster_sends_do_not_arrive(tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    words = 'while [ "$1" != -- ]; do shift; done; shift 2; exec sh -c "$*"'  # as ssh runs it on the cluster
    ssh.write_text(f'#!/bin/sh\ncase "$*" in *"-O check"*) exit 0;; esac\n{words}\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there / "run", here / "run"):
        folder.mkdir(parents=True)
    (there / "run/config.yaml").write_text("of the cluster")
    (there / "run/log.txt").write_text("of the cluster")
    (there / "run/history.pkl").symlink_to(mine / "file")
    (there / "other").symlink_to(mine)
    (here / "run/log.txt").symlink_to(mine / "file")
    arrived = Connection("arnold").pull(str(there), here)
    assert sorted(arrived) == ["run/config.yaml", "run/log.txt"]
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*")) == ["run", *sorted(arrived)]
    assert not (here / "run/log.txt").is_symlink()
    assert as_before(mine)


@pytest.mark.parametrize("name", ["clusters", "clusters/arnold.json"])
def test_the_answer_of_a_cluster_is_not_written_through_a_link(tmp_path: Path, mine: Path, name: str) -> None:
    sweep = Sweep(tmp_path / "sweep")
    (sweep.folder / name).parent.mkdir(parents=True)
    (sweep.folder / name).symlink_to(mine if name == "clusters" else mine / "file")
    if name == "clusters":
        with pytest.raises(OSError, match="symbolic link"):
            status_cache.save_reply(sweep, "arnold", LastReply(1.0, []))
    else:
        status_cache.save_reply(sweep, "arnold", LastReply(1.0, []))
    assert as_before(mine)
