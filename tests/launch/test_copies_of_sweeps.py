"""A copy of a sweep whose runs still train: its runs count as lost, and commands on it do not touch the original."""

import shutil

import pytest

from mtlcluster.launch.cancel import cancel
from mtlcluster.launch.run_status import observe
from mtlcluster.sweep.folder import Sweep


@pytest.fixture(params=["local", "slurm"])
def sweep(request, make_grid, fake_child):
    grid = make_grid(grid={"data.path": ["endless"]})
    if request.param == "slurm":
        request.getfixturevalue("slurm")
        made = request.getfixturevalue("submit_to_slurm")(grid)
        made.wait(lambda status: status.state == "running", "the run to begin")
    else:
        made = request.getfixturevalue("submit_locally")(grid)
        made.wait("", "running")
    return made.sweep


def test_a_cancelled_copy_leaves_the_runs_of_the_original_alone(sweep, project):
    copy = Sweep(project / "copies" / "sweep")
    shutil.copytree(sweep.folder, copy.folder)
    link = Sweep(project / "link" / "sweep")
    link.folder.parent.symlink_to(sweep.folder.parent)
    assert [run.state for run in observe([copy])] == ["lost"]
    assert [run.state for run in observe([link])] == ["running"]
    assert [run.state for run in cancel(copy, observe([copy]), print)] == ["cancelled"]
    assert [run.state for run in observe([sweep])] == ["running"]
    sweep.folder.rename(project / "moved")
    assert [run.state for run in observe([Sweep(project / "moved")])] == ["running"]
