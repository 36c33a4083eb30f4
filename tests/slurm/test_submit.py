"""`submit` to a real Slurm: refused, split into arrays, killed half-way, twice at the same time.

Nothing is trained here: the jobs wait in a partition that is down.
"""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mtlcluster.errors import SchedulerError, UserError
from mtlcluster.launch.choose_cluster import choose_cluster
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.submit import submit
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep

FOUR = {"grid": {"seed": {"range": 4}}, "resources": {"partition": "closed"}}
KILLED_SUBMIT = Path(__file__).parents[1] / "rig" / "killed_submit.py"


def test_what_sbatch_refuses_is_told_in_its_words_and_can_be_mended(slurm, project, make_grid):
    with pytest.raises(SchedulerError, match=r"sbatch: error: .*invalid partition specified: nowhere"):
        submit(make_grid(**{**FOUR, "resources": {"partition": "nowhere"}}), project / "runs", "slurm", print)
    assert slurm.jobs() == {}
    mended = submit(make_grid(**FOUR), project / "runs", "slurm", print)
    assert len(mended.submitted) == 4
    assert (mended.new, len(mended.there)) == ([], 4)
    assert len(slurm.jobs()) == 4
    assert "partition: closed" in mended.sweep.run(mended.submitted[0]).config.read_text()


def test_an_array_is_split_where_the_cluster_asks_for_it(slurm, project, make_grid):
    with slurm.configured(MaxArraySize=3):
        submitted = submit(make_grid(**FOUR), project / "runs", "slurm", print)
        arrays = Counter(job.partition("_")[0] for job in submitted.job_ids)
        assert sorted(arrays.values()) == [1, 3]
        assert slurm.jobs().keys() == set(submitted.job_ids)
    accepted = submissions.latest(submissions.read(submitted.sweep.submissions))
    assert accepted.keys() == set(submitted.new)


def test_runs_with_other_resources_go_into_other_arrays(slurm, project, make_grid):
    with pytest.raises(UserError, match="two points are the same run"):  # resources do not belong to its identity
        make_grid(**{**FOUR, "grid": {"seed": {"range": 2}, "resources.memory": ["100M", "200M"]}})
    include = [{"seed": 0}, {"seed": 1, "resources.memory": "3G"}, {"seed": 2}]
    scripts = preview(make_grid(**{**FOUR, "grid": {}, "include": include}), project / "runs", "slurm")
    assert re.findall(r"--mem=(\d+)M", scripts) == ["500", "3072"]


def test_a_job_of_several_runs_asks_for_as_much_as_they_take_together(slurm, project, make_grid):
    asked = {"cpus": 3, "gpus": 1, "memory": "1G", "time": "20m"}
    script = preview(
        make_grid(grid={"seed": {"range": 5}}, resources=asked, runs_per_job=5, at_once=2), project / "runs", "slurm"
    )
    for line in ("cpus-per-task=6", "gpus-per-node=2", "mem=2048M", "time=60", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in script
    assert "--array" not in script


POINTS = ["code kept", "grid written", "first run in place", "begun", "sbatch returned"]


@pytest.mark.parametrize("point", [*POINTS, "before the end", "after the end"])
def test_a_killed_submit_is_completed_by_the_next(slurm, project, make_grid, point):
    grid = make_grid(**FOUR)
    command = [sys.executable, str(KILLED_SUBMIT), str(grid.path), str(project / "runs"), point]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    result = submit(grid, project / "runs", "slurm", print)
    assert {run.hash for run in grid.runs} == {run.name.rpartition("-")[2] for run in result.sweep.runs()}
    by_run = submissions.latest(submissions.read(result.sweep.submissions))
    assert {job for _, job in by_run.values()} == slurm.jobs().keys()
    assert len(by_run) == len(slurm.jobs()) == 4
    assert not list(result.sweep.folder.glob("**/.new"))


def test_two_submits_at_once_double_nothing(slurm, project, make_grid):
    grid = make_grid(**FOUR)
    command = [sys.executable, str(KILLED_SUBMIT), str(grid.path), str(project / "runs"), "never"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = sorted(int(process.communicate()[0].splitlines()[-1]) for process in both)
    assert counts == [0, 4]
    assert len(slurm.jobs()) == 4
    assert len(Sweep(project / "runs" / "sweep").runs()) == 4


def test_a_cluster_file_says_how_jobs_are_asked_for(slurm, project, make_grid, tmp_path):
    (project / "clusters.yaml").write_text(
        "lab:\n  partition: closed\n  account: multi\n  qos: normal\n  constraint: fast\n"
        f"  setup: [module load cuda]\n  environment: {sys.prefix}\n"
    )
    grid = make_grid(grid={"seed": [0]}, cluster="lab", resources={"qos": "long"})
    script = preview(grid, project / "runs", None)
    for line in ("partition=closed", "account=multi", "qos=long", "constraint=fast"):
        assert f"#SBATCH --{line}\n" in script
    assert "\nmodule load cuda\n" in script
    assert f"{sys.prefix}/bin/python -u -m mtlcluster._entry slurm-worker " in script
    assert choose_cluster(None, make_grid(grid={"seed": [0]})).name == "slurm"
    with pytest.raises(UserError, match=r"no cluster 'lob' in .*; did you mean 'lab'"):
        choose_cluster("lob", grid)


@pytest.mark.parametrize(
    ("options", "gpus", "line"),
    [
        ("{}", 1, "gpus-per-node=2"),
        ("{}", {"type": "a100", "count": 2}, "gpus-per-node=a100:4"),
        ("{gpus_as: gres}", 1, "gres=gpu:2"),
        ("{gpus_as: gres}", {"type": "a100", "count": 2}, "gres=gpu:a100:4"),
        ("{gpu_types: {a100: nvidia_a100_80gb}}", {"type": "a100", "count": 1}, "gpus-per-node=nvidia_a100_80gb:2"),
        ("{gpus_as: gres}", 0, None),
    ],
)
def test_gpus_are_asked_for_as_the_cluster_wants_it(slurm, project, make_grid, options, gpus, line):
    (project / "clusters.yaml").write_text(f"lab: {options}\n")
    grid = make_grid(grid={"seed": [0, 1]}, resources={"gpus": gpus}, runs_per_job=2, at_once=2)
    script = preview(grid, project / "runs", "lab")
    assert re.findall(r"#SBATCH --(g.*)", script) == ([line] if line else [])


def test_gpus_throttle_and_mail_reach_the_queue(slurm, project, make_grid):
    (project / "clusters.yaml").write_text("lab: {gpus_as: gres, limits: {jobs: 2}, mail: me@lab.example}\n")
    asked = {**FOUR["resources"], "gpus": 1}
    submitted = submit(make_grid(**{**FOUR, "resources": asked}), project / "runs", "lab", print)
    job = slurm.ask("scontrol", "show", "job", submitted.job_ids[0])
    assert re.search(r"TresPerNode=gres[:/]gpu:1\b", job)
    assert "ArrayTaskThrottle=2\n" in job.replace(" ", "\n")
    assert "MailUser=me@lab.example" in job
    assert re.search(r"MailType=\S*END,FAIL", job)


LIMITED = """lab:
  gpu_types: {a100: nvidia_a100_80gb, h100: h100}
  limits: {time: 15m, cpus: 4, gpus: 2, memory: 2G}
"""


@pytest.mark.parametrize(
    ("resources", "packing", "message"),
    [
        ({"gpus": {"type": "a10", "count": 1}}, (1, 1), "'lab' has no GPUs of type 'a10'; did you mean 'a100'?"),
        ({"time": "16m"}, (1, 1), "time 16m, limits.time is 15m (lower resources.time)"),
        ({"time": "5m"}, (8, 2), "time 4 × 5m, limits.time is 15m (lower resources.time or runs_per_job, or raise"),
        ({"cpus": 2}, (3, 3), "cluster 'lab' allows: cpus 3 × 2, limits.cpus is 4 (lower resources.cpus or at_once)"),
        ({"gpus": {"type": "h100", "count": 3}}, (2, 1), "gpus 3, limits.gpus is 2 (lower resources.gpus)"),
        ({"memory": "1G", "cpus": 5}, (3, 3), "; memory 3 × 1G, limits.memory is 2G (lower resources.memory"),
    ],
)
def test_what_a_cluster_does_not_give_is_refused_before_anything_is_written(
    slurm, project, make_grid, resources, packing, message
):
    (project / "clusters.yaml").write_text(LIMITED)
    runs_per_job, at_once = packing
    grid = make_grid(grid={"seed": {"range": 8}}, resources=resources, runs_per_job=runs_per_job, at_once=at_once)
    for command in (preview, lambda *where: submit(*where, print)):
        with pytest.raises(UserError) as refused:
            command(grid, project / "runs", "lab")
        assert str(refused.value).startswith(f"{grid.path}: ")
        assert message in str(refused.value)
    assert not (project / "runs").exists()
    assert slurm.jobs() == {}


def test_as_much_as_a_cluster_gives_is_taken_and_a_retry_heeds_what_it_gives_now(slurm, project, make_grid):
    (project / "clusters.yaml").write_text(LIMITED)
    asked = {**FOUR["resources"], "time": "7m30s", "cpus": 2, "gpus": 1, "memory": "1G"}
    grid = make_grid(**{**FOUR, "resources": asked}, runs_per_job=4, at_once=2)
    first = submit(grid, project / "runs", "lab", print)
    assert len(first.submitted) == 4
    slurm.clear()
    (project / "clusters.yaml").write_text(LIMITED.replace("15m", "14m"))
    before = {path: path.read_bytes() for path in first.sweep.folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"sweep.yaml: a job .* time 2 × 7m30s, limits.time is 14m"):
        resubmit(first.sweep, first.new, restart=True, say=print)
    assert {path: path.read_bytes() for path in first.sweep.folder.rglob("*") if path.is_file()} == before
    assert slurm.jobs() == {}


def test_without_slurm_this_machine_is_chosen(project, make_grid, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", os.devnull)
    grid = make_grid(grid={"seed": [0]})
    with pytest.raises(UserError, match="Slurm does not answer"):
        choose_cluster("slurm", grid)
    monkeypatch.setenv("PATH", str(project))
    assert choose_cluster(None, grid).name == "local"


def test_from_a_relative_folder_a_retry_asks_for_what_the_grid_asks_for_now(slurm, project, make_grid, monkeypatch):
    monkeypatch.chdir(project)
    one = {"grid": {"seed": [0]}, "resources": {"partition": "closed", "time": "9m"}}
    first = submit(make_grid(**one), Path("runs"), "slurm", print)
    sweep = Sweep(Path("runs/sweep"))
    with pytest.raises(UserError, match="still at work; nothing was submitted"):
        resubmit(sweep, first.new, restart=True, say=print)
    slurm.clear()
    submit(make_grid(**{**one, "resources": {**one["resources"], "time": "11m"}}), Path("runs"), "slurm", print)
    [job] = resubmit(sweep, first.new, restart=False, say=print).job_ids
    script = Path("runs/sweep/submissions/0002/batch.sh").read_text()
    assert "#SBATCH --time=11\n" in script
    assert f"sh {project}/runs/sweep/code/" in script
    assert "TimeLimit=00:11:00" in slurm.ask("scontrol", "show", "job", job)
