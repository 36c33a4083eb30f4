"""The runs may lie in a folder with any name that Slurm can write into. Patterns of Slurm (%j), blanks and quotes in
it stand for themselves.
"""

import pytest
from rig.slurm_cluster import wait_for

from mtlcluster.errors import UserError
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.submit import submit
from mtlcluster.sweep.folder import Sweep

ODD = ["%j", "%A_%a-%t", "100%", "%%", "%5j %x%u%N", "two  words", "it's", 'a "b"', "x #y", "$HOME `id` &;(*)", "-é日"]
EARLY = "lab:\n  setup: [echo it has begun, exit 0]\n"


def outputs(folder):
    return sorted(path.name for path in folder.rglob("*.out") if "it has begun" in path.read_text())


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_output_of_jobs_is_in_the_sweep(slurm, project, make_grid, submit_to_slurm, jobs):
    (project / "clusters.yaml").write_text(EARLY)
    ids = {}
    for number, name in enumerate(ODD):
        grid = make_grid(f"sweep{number}", grid={"seed": {"range": jobs}})
        ids[name] = submit_to_slurm(grid, runs=name, cluster="lab").submitted.job_ids
    wait_for(lambda: not slurm.jobs(), "the jobs to end")
    for number, name in enumerate(ODD):
        folder = project / name / f"sweep{number}" / "submissions" / "0001"
        assert outputs(project / name) == outputs(folder) == [f"{job}_0_log.out" for job in ids[name]], name


def test_a_run_is_trained_in_such_a_folder(slurm, make_grid, submit_to_slurm):
    grid = make_grid(grid={"seed": {"range": 2}}, set={"epochs": 1})
    sweep = submit_to_slurm(grid, runs='it\'s %j of "%A_%a" #1 $HOME')
    sweep.wait_until_done()
    assert {status.job_id for status in sweep.statuses()} == set(sweep.submitted.job_ids)


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "\\", "a\tb", "a\x1b[31m", "a\udcffb"])
def test_a_folder_that_slurm_cannot_write_into_is_refused(slurm, project, make_grid, name):
    grid = make_grid(grid={"seed": [0]})
    for command in (preview, lambda *where: submit(*where, print)):
        with pytest.raises(UserError, match="Slurm can't write into a folder with a backslash or a line break") as told:
            command(grid, project / name, "slurm")
        assert str(told.value).isprintable()
    assert not (project / name).exists()
    assert slurm.jobs() == {}


def test_a_sweep_that_was_moved_there_is_not_retried_there(slurm, project, make_grid, submit_to_slurm):
    sweep = submit_to_slurm(make_grid(grid={"seed": [0]}, resources={"partition": "closed"})).sweep
    slurm.clear()
    moved = Sweep(sweep.folder.rename(project / "a\\b"))
    before = {path: path.read_bytes() for path in moved.folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="Slurm can't write into a folder with a backslash"):
        resubmit(moved, [run.name for run in moved.runs()], restart=True, say=print)
    assert {path: path.read_bytes() for path in moved.folder.rglob("*") if path.is_file()} == before
    assert slurm.jobs() == {}
