"""The slots folder lies in a temporary folder that everybody may write to: unless it is this user's alone it is not
used, and the reason is said.
"""

import os
import tempfile
from pathlib import Path

import pytest

from mtlcluster.errors import UserError
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.submit import submit

pytestmark = pytest.mark.usefixtures("fake_child")


@pytest.fixture
def slots(project, monkeypatch):
    """Where they are, for this process as for its workers: in the test's own temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = Path(tempfile.gettempdir()) / f"mtlcluster-{os.getuid()}"
    assert folder.is_relative_to(project.parent)
    return folder


def link(folder):
    (folder.parent / "target").mkdir(mode=0o700, exist_ok=True)
    folder.symlink_to(folder.parent / "target")


def link_to_nowhere(folder):
    folder.symlink_to(folder.parent / "nowhere")


def file(folder):
    folder.write_text("")


def open_to_others(folder):
    folder.mkdir()
    folder.chmod(0o755)


def of_another_user(folder):
    if os.getuid() != 0:
        pytest.skip("to make a folder another user's takes root")
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)


@pytest.mark.parametrize(
    ("trap", "words"),
    [(link, "is a link or no folder"), (link_to_nowhere, "is a link"), (file, "no folder"),
     (open_to_others, "is open to other users; .*: chmod 700"), (of_another_user, "belongs to another user")],
)  # fmt: skip
def test_submit_refuses_it_before_anything_is_written(make_grid, project, slots, trap, words):
    trap(slots)
    with pytest.raises(UserError, match=f"{slots}: .*{words}"):
        submit(make_grid(grid={"data.path": ["fine"]}), project / "runs", "local", print)
    assert not (project / "runs").exists()
    assert not list((slots.parent / "target").glob("*"))


def test_retry_refuses_it_and_a_dry_run_makes_nothing(make_grid, project, slots, submit_locally):
    grid = make_grid(grid={"data.path": ["fails"]})
    preview(grid, project / "runs", "local")
    assert not slots.exists()
    found = submit_locally(grid)
    found.wait("", "failed")
    os.waitpid(found.worker, 0)
    slots.rename(slots.with_name("away"))
    link(slots)
    before = found.sweep.submissions.read_text()
    with pytest.raises(UserError, match="is a link"):
        resubmit(found.sweep, [found.run("")], restart=False, say=print)
    assert found.sweep.submissions.read_text() == before


def test_a_worker_that_meets_it_says_so_in_the_status_of_its_runs(make_grid, slots, submit_locally):
    every_core = {"cpus": len(os.sched_getaffinity(0))}
    found = submit_locally(make_grid(grid={"data.path": ["endless", "fine"]}, resources=every_core))
    found.wait("endless", "running")
    slots.rename(slots.with_name("away"))
    link(slots)
    found.wait("fine", "failed")
    seen = {run.state: run.error for run in observe([found.sweep])}
    assert seen.keys() == {"running", "failed"}
    assert f"could not be started: {slots}: is a link or no folder" in seen["failed"]
    assert not list((slots.parent / "target").glob("*"))
