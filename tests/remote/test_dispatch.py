"""Submitting from the laptop: each run goes to exactly one cluster, once, whatever breaks on the way.

Nothing is trained here: the jobs wait in a partition that is down.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from rig.laptop import Laptop
from rig.slurm_cluster import wait_for

from mtlcluster.sweep.folder import Sweep

FOUR = {"grid": {"seed": {"range": 4}}}


def runs_on(cluster, root: str = "mtlcluster") -> set[str]:
    return {run.name for run in Sweep(cluster.login.home / root / "runs" / "sweep").runs()}


def assert_each_has_one_job(cluster, count: int = 4, root: str = "mtlcluster") -> None:
    assert len(runs_on(cluster, root)) == len(cluster.slurm.jobs()) == count


def test_a_grid_goes_there_once_and_what_is_added_later_follows(laptop, arnold, make_grid):
    laptop.describe(arnold={"root": "~/of mine"})
    make_grid(**FOUR)
    said = laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert "submitted 4 runs of sweep in 4 jobs on arnold" in said
    assert_each_has_one_job(arnold, root="of mine")
    assert len(arnold.login.commands()) <= 8
    assert "4 of 4 runs are already there" in laptop("submit", "sweep.yaml", "--cluster", "arnold")
    make_grid(grid={"seed": {"range": 6}})
    assert "submitted 2 runs" in laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert_each_has_one_job(arnold, 6, root="of mine")
    assert {run["cluster"] for run in laptop.status("sweep").values()} == {"arnold"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3], ids=["looking", "copying", "submitting"])
def test_broken_off_at_any_point_a_second_submit_completes_it(laptop, arnold, make_grid, at, when):
    laptop.describe(arnold={})
    make_grid(**FOUR)
    arnold.login.cut(at, when)
    broken = laptop.run("submit", "sweep.yaml", "--cluster", "arnold")
    if (at, when) != (2, "after"):  # then all had arrived
        assert "the connection to arnold was lost" in broken.stderr
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert_each_has_one_job(arnold)
    assert len(laptop.status("sweep")) == 4
    assert not list(arnold.login.home.glob("mtlcluster/runs/sweep/.arriving*"))


def test_copying_goes_on_where_a_slow_line_broke(laptop, arnold, client, make_grid):
    laptop.describe(arnold={})
    make_grid(**FOUR)
    client.reach(arnold.login, delay=0.02, cut_after=9_000)
    laptop("submit", "sweep.yaml", "--cluster", "arnold", code=1)
    client.reach(arnold.login, delay=0.2)
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert_each_has_one_job(arnold)


def test_a_run_lives_on_one_cluster(laptop, arnold, uh, make_grid):
    laptop.describe(arnold={}, uh={})
    make_grid(grid={"seed": {"range": 2}})
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    make_grid(**FOUR)
    assert "2 are on arnold" in laptop("submit", "sweep.yaml", "--cluster", "uh")
    assert_each_has_one_job(arnold, 2)
    assert_each_has_one_job(uh, 2)
    assert not runs_on(arnold) & runs_on(uh)
    assert sorted(run["cluster"] for run in laptop.status("sweep").values()) == ["arnold", "arnold", "uh", "uh"]
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert (len(arnold.slurm.jobs()), len(uh.slurm.jobs())) == (2, 2)


def test_split_deals_the_runs_out(laptop, arnold, uh, make_grid):
    laptop.describe(arnold={}, uh={})
    make_grid(**FOUR)
    said = laptop("submit", "sweep.yaml", "--split", "arnold,uh")
    assert "submitted 4 runs" in said
    assert "2 of them on arnold" in said
    assert_each_has_one_job(arnold, 2)
    assert_each_has_one_job(uh, 2)


def test_another_laptop_sees_what_is_there_and_doubles_nothing(laptop, arnold, uh, make_grid, tmp_path):
    laptop.describe(arnold={}, uh={})
    make_grid(**FOUR)
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    other = Laptop(tmp_path / "other", tmp_path / "other-home")
    shutil.copytree(laptop.folder, other.folder, ignore=lambda *_: ["runs"])
    shutil.copy(laptop.clusters, other.clusters)
    assert len(other.status()) == len(other.status("sweep")) == 4
    assert "4 are on arnold" in other("submit", "sweep.yaml", "--cluster", "uh")
    assert "4 of 4 runs are already there" in other("submit", "sweep.yaml", "--cluster", "arnold")
    assert "4 are on arnold" in other("submit", "sweep.yaml", "--cluster", "local")
    assert_each_has_one_job(arnold)
    assert uh.slurm.jobs() == {}
    assert len(other.status("sweep")) == 4
    assert "cancelled 4 runs" in other("cancel", "sweep", "--yes")
    assert arnold.slurm.jobs() == {}


def test_what_was_copied_but_never_submitted_goes_to_another_cluster_whole_and_once(laptop, arnold, uh, make_grid):
    laptop.describe(arnold={}, uh={})
    make_grid(**FOUR)
    arnold.login.cut(3, "before")
    laptop("submit", "sweep.yaml", "--cluster", "arnold", code=1)
    laptop("submit", "sweep.yaml", "--cluster", "uh")
    make_grid(grid={"seed": {"range": 6}})
    for _ in range(2):
        laptop("submit", "sweep.yaml", "--split", "uh,arnold")
    assert (len(arnold.slurm.jobs()), len(uh.slurm.jobs())) == (1, 5)
    assert len(runs_on(arnold)) == 1


def test_a_dry_run_shows_the_script_without_a_slurm_here(laptop, arnold, make_grid, monkeypatch):
    nowhere = Path(os.environ["HOME"], "programs")
    nowhere.mkdir()
    for program in ("ssh", "rsync"):
        (nowhere / program).symlink_to(shutil.which(program))
    laptop.describe(arnold={})
    make_grid(**FOUR)
    monkeypatch.setenv("PATH", str(nowhere))
    shown = laptop("submit", "sweep.yaml", "--cluster", "arnold", "--dry-run")
    assert "4 of 4 runs to submit" in shown
    assert "#SBATCH --partition=closed" in shown
    assert "~/mtlcluster/runs/sweep/code/" in shown


def test_with_a_target_down_nothing_is_sent_and_with_another_cluster_down_its_runs_stay_its_own(
    laptop, arnold, uh, make_grid
):
    laptop.describe(arnold={}, uh={})
    make_grid(**FOUR)
    arnold.login.cut(3, "after")  # submitted there, though the laptop never heard of it
    laptop("submit", "sweep.yaml", "--cluster", "arnold", code=1)
    arnold.login.stop()
    said = laptop("submit", "sweep.yaml", "--split", "arnold,uh", code=1)
    assert "arnold does not answer (is it down?); nothing was submitted" in said
    assert "4 are on arnold" in laptop("submit", "sweep.yaml", "--cluster", "uh")
    assert uh.slurm.jobs() == {}
    arnold.login.start()
    assert_each_has_one_job(arnold)


def test_data_are_looked_for_over_there(laptop, arnold, make_grid, project):
    laptop.describe(arnold={})
    make_grid(grid={"data.path": ["./features.h5"], "seed": {"range": 2}})
    said = laptop("submit", "sweep.yaml", "--cluster", "arnold", code=2)
    assert f"arnold does not have the data that the grid names:\n  {project}/features.h5 (data.path)" in said
    assert not (project / "runs").exists()
    laptop.describe(arnold={"data": {"tiny": {"path": "~/fast disk/features.h5"}}})
    (arnold.login.home / "fast disk").mkdir()
    (arnold.login.home / "fast disk" / "features.h5").touch()
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert_each_has_one_job(arnold, 2)
    for config in arnold.login.home.glob("mtlcluster/runs/sweep/*/config.yaml"):
        assert "path: ~/fast disk/features.h5" in config.read_text()
    make_grid(grid={"data.path": ["./features.h5", "./others.h5"]})
    assert "data.path is what the grid varies" in laptop("submit", "sweep.yaml", "--cluster", "arnold", code=2)
    laptop.describe(arnold={"data": {"tiny": {"pathh": "x"}}})
    assert "unknown option 'pathh'" in laptop("submit", "sweep.yaml", "--cluster", "arnold", code=2)


def test_what_is_missing_over_there_is_told_before_anything_is_written(laptop, arnold, make_grid, project, tmp_path):
    make_grid(**FOUR)
    submit = ("submit", "sweep.yaml", "--cluster", "arnold")
    laptop.describe(arnold={"environment": "~/none"})
    assert "mtlcluster is missing on arnold; mtlcluster setup --cluster arnold" in laptop(*submit, code=1)
    bare = tmp_path / "bare" / "bin"
    bare.mkdir(parents=True)
    (bare / "python").symlink_to(Path(sys._base_executable).resolve())
    laptop.describe(arnold={"environment": str(bare.parent)})
    assert "mtlcluster is missing on arnold" in laptop(*submit, code=1)
    laptop.describe(arnold={"root": "/proc/mine"})
    assert "/proc/mine" in laptop(*submit, code=1)
    laptop.describe(arnold={"setup": [f"export PYTHONPATH={tmp_path}/old"]})
    old = tmp_path / "old" / "mtlcluster"
    shutil.copytree(Path(__file__).parents[2] / "mtlcluster", old, ignore=shutil.ignore_patterns("__pycache__"))
    (old / "errors.py").write_text((old / "errors.py").read_text() + "\n# as it was last week\n")
    said = laptop(*submit, code=1)
    assert "arnold has another version of mtlcluster; mtlcluster setup --cluster arnold brings it up to date" in said
    other = arnold.login.home / "mtlcluster" / "runs" / "sweep" / "sweep.yaml"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("name: sweep\njob: jobs/other.py:build\n")
    laptop.describe(arnold={})
    said = laptop(*submit, code=2)
    assert "arnold: " in said
    assert "is a sweep of job jobs/other.py:build, this grid is of jobs/tiny.py:build; give it another name" in said
    assert not (project / "runs").exists()
    assert arnold.slurm.jobs() == {}


def test_where_the_disk_is_full_nothing_is_lost(laptop, arnold, make_grid, small_disk):
    root = small_disk(arnold.login.home / "scratch", "300k")
    laptop.describe(arnold={"root": str(root)})
    make_grid(**FOUR)
    assert "its disk is full" in laptop("submit", "sweep.yaml", "--cluster", "arnold", code=1)
    small_disk.grow(root, "20m")
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert_each_has_one_job(arnold, root="scratch")


def test_no_name_breaks_out_of_a_command_and_no_folder_is_two_clusters(laptop, arnold, make_grid):
    root = "~/a b'c\"; touch $HOME/hacked; `touch $HOME/hacked` $(touch $HOME/hacked) \\"
    laptop.describe(arnold={"root": root})
    make_grid(grid={"optimizer.lr": [1e-3], "seed": [0, 1]})
    laptop("submit", "sweep.yaml", "--cluster", "arnold")
    assert_each_has_one_job(arnold, 2, root=root[2:])
    wait_for(lambda: len(laptop.status("sweep")) == 2, "status")
    laptop("logs", "sweep", "seed=1")
    assert not list(arnold.login.home.glob("**/hacked"))
    laptop.describe(arnold={}, debug={"host": "arnold", "partition": "main"})
    assert "'debug' and 'arnold' have one host and root; give one of them another root" in laptop("status", code=2)
    for host in ("-oProxyCommand=touch hacked", "a b", "a;b"):
        laptop.describe(arnold={"host": host})
        assert "host should be a name from ~/.ssh/config" in laptop("status", code=2)
