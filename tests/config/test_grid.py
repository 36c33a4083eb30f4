"""Grids: how they expand, which points are the same run, and the messages about mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.config.run import RunConfig, read_run_config, run_hash
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError

ROOT = Path(__file__).parents[2]
JOB = "job: tiny\n"


def names(grid):
    return [run.name.rsplit("-", 1)[0] for run in grid.runs]


def test_every_combination_with_zip_include_and_exclude(write):
    write("job: tiny\nepochs: 7\noptimizer: {lr: 0.1}\n", "base.yaml")
    grid = read_grid(
        write("""
name: sweep
base: base.yaml
set: {batch_size: 32, optimizer.weight_decay: 0}
grid:
  method: [equal, {schedule: dsg, gradient: pcgrad}]
  seed: {range: 3}
zip:
  - {model.width: [4, 8], optimizer.lr: [1e-2, 5e-3]}
include:
  - {method: uncertainty, epochs: 9}
exclude:
  - {method: equal, seed: 1}
""")
    )
    assert len(grid.runs) == 2 * 3 * 2 - 2 + 1
    assert names(grid)[0] == "equal-seed=0-width=4-lr=0.01"
    assert names(grid)[-2] == "dsg+pcgrad-seed=2-width=8-lr=0.005"
    assert names(grid)[-1] == "uncertainty-epochs=9"
    first, last = grid.runs[0].config, grid.runs[-1].config
    assert (first.batch_size, first.epochs, first.optimizer.lr, first.optimizer.weight_decay) == (32, 7, 0.01, 0)
    assert (last.epochs, last.optimizer.lr, last.job) == (9, 0.1, "jobs/tiny.py:build")
    assert len({run.hash for run in grid.runs}) == len(grid.runs)


def test_a_deeper_key_of_a_method_reaches_inside(write):
    grid = read_grid(write(JOB + "name: s\ngrid: {method.weighting: [equal, dwa], method: [pcgrad]}\n"))
    assert [run.config.method["weighting"]["name"] for run in grid.runs] == ["equal", "dwa"]
    assert {run.config.method["gradient"]["name"] for run in grid.runs} == {"pcgrad"}


def identity(**settings):
    return run_hash(RunConfig(**{"job": "jobs/tiny.py:build", **settings}))


def test_identity_is_over_what_decides_the_result():
    plain = identity()
    assert identity(resources={"time": "9h", "cpus": 4}) == identity(checkpoint_every="1m") == plain
    assert identity(method={"gradient": {"name": "sum"}}) == identity(epochs=20) == plain
    assert identity(method={"weighting": {"name": "gradnorm", "alpha": 1.5}}) == identity(method="gradnorm")
    here, there, other = (identity(data={"path": path}) for path in ("/a/x.h5", "$SCRATCH/b/x.h5", "/a/y.h5"))
    assert here == there != other
    others = [{"seed": 1}, {"epochs": 21}, {"method": "dwa"}, {"optimizer": {"lr": 0.1}}, {"data": {"noisy": True}}]
    assert len({plain, *(identity(**other) for other in others)}) == len(others) + 1


def test_points_that_are_the_same_run_are_one_run(write):
    grid = read_grid(write(JOB + "name: s\ngrid: {method: [pcgrad, {gradient: pcgrad}], seed: [0]}\n"))
    assert (len(grid.runs), grid.repeated) == (1, 1)


def test_points_that_differ_in_nothing_that_counts_are_refused(write):
    with pytest.raises(UserError, match=r"grid\.yaml:3: two points are the same run"):
        read_grid(write(JOB + "name: s\ngrid: {data.path: [/2021/x.h5, /2022/x.h5]}\n"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: s\njob: tiny\ngrid: {seed: [0]}\nresorces: {}\n", 4, "key 'resorces'; did you mean 'resources'"),
        ("job: tiny\ngrid: {seed: [0]}\n", 1, "missing key 'name'"),
        ("name: s\ngrid: {seed: [0]}\n", 1, "missing key 'job'"),
        ("name: ../up\njob: tiny\ngrid: {seed: [0]}\n", 1, "name should be"),
        ("name: s\njob: tyni\ngrid: {seed: [0]}\n", 2, "did you mean 'tiny'"),
        ("name: s\njob: tiny\n", 1, "the grid is empty"),
        ("name: s\njob: tiny\ngrid: {seed: []}\n", 3, "grid.seed has no values"),
        ("name: s\njob: tiny\ngrid:\n  seed: 3\n", 4, "grid.seed"),
        ("name: s\njob: tiny\ngrid:\n  seed: [0, two]\n", 4, "seed should be a valid integer, found 'two'"),
        ("name: s\njob: tiny\ngrid:\n  method:\n    - equal\n    - pcgard\n", 6, "did you mean 'pcgrad'"),
        ("name: s\njob: tiny\nset:\n  epoch: 3\ngrid: {seed: [0]}\n", 4, "'epoch'; did you mean 'epochs'"),
        ("name: s\njob: tiny\ngrid:\n  optimizer.lr: [-1.0]\n", 4, "optimizer.lr should be greater than 0"),
        ("name: s\njob: tiny\ngrid:\n  model.widht: [1]\n", 4, "the model of jobs/tiny.py; did you mean 'width'"),
        ("name: s\njob: tiny\ngrid: {seed: [0]}\nresources:\n  time: 90x\n", 5, "should be a duration"),
        ("name: s\njob: tiny\ngrid: {seed: [0]}\nresources: {memory: lots}\n", 4, "should be a size such as"),
        ("name: s\njob: tiny\ngrid: {seed: [0]}\nat_once: 3\n", 1, "at_once (3) should be at most runs_per_job"),
        ("name: s\njob: tiny\ngrid: {seed: {range: 2000000}}\n", 3, "2,000,000 points; the limit is 10,000"),
        ("name: s\njob: tiny\ngrid: {seed: [0]}\nexclude:\n  - {seed: 5}\n", 5, "exclude matches no point"),
        ("name: s\njob: tiny\nzip:\n  - {seed: [1, 2], epochs: [1]}\n", 4, "should be equally long"),
        ("name: s\njob: tiny\nbase: other.yaml\ngrid: {seed: [0]}\n", 3, "there is no file"),
        ("name: s\nname: t\n", 2, "key 'name' is already in line 1"),
        ("name: [s\n", 2, "not valid YAML"),
        ("- a\n", 1, "expected keys and values"),
        ("name: s\njob: tiny\nset: {epochs: 3, steps: 4}\ngrid: {seed: [0]}\n", 1, "either epochs or steps"),
        ("name: s\njob: tiny\nset: {tasks: [a]}\ngrid:\n  method: [{schedule: {name: single, task: b}}]", 5, "'b'"),
    ],
)  # fmt: skip
def test_a_wrong_grid_is_refused_with_file_and_line(write, text, line, message):
    path = write(text)
    with pytest.raises(UserError) as refused:
        read_grid(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert message in str(refused.value)


def test_gpus_are_a_count_or_a_type_and_a_count_and_vary_as_either(write):
    typed = {"type": "a100", "count": 2}
    grid = read_grid(
        write(
            JOB
            + """
name: s
resources: {gpus: {type: a100, count: 2}}
include:
  - {seed: 0}
  - {seed: 1, resources.gpus: 3}
  - {seed: 2, resources.gpus.count: 4}
  - {seed: 3, resources.gpus: {type: 4090, count: 1}}
"""
        )
    )
    asked = [run.config.resources for run in grid.runs]
    assert [(each.gpu_count, each.gpu_type) for each in asked] == [(2, "a100"), (3, None), (4, "a100"), (1, "4090")]
    assert [each.ranks for each in asked] == [2, 3, 4, 1]
    for gpus in (2, typed):
        path = write(dump({"job": "tiny", "resources": {"gpus": gpus}}), "run.yaml")
        assert read_run_config(path).model_dump()["resources"]["gpus"] == gpus


@pytest.mark.parametrize(
    "gpus", ["-1", "two", "true", "[2]", "{type: a100}", "{tpye: a100, count: 2}", "{type: a100, count: 0}",
             "{type: 'gpu:a100', count: 2}"]
)  # fmt: skip
def test_a_mistake_in_gpus_is_answered_with_both_forms(write, gpus):
    forms = "should be a count, such as 2, or a type and a count, such as {type: a100, count: 2}, found"
    for text, line in (f"resources:\n  gpus: {gpus}\n", 5), (f"set:\n  resources.gpus: {gpus}\n", 5):
        path = write(f"name: s\njob: tiny\ngrid: {{seed: [0]}}\n{text}")
        with pytest.raises(UserError) as refused:
            read_grid(path)
        assert str(refused.value).startswith(f"{path}:{line}: resources.gpus {forms} ")


def test_a_mistake_in_the_base_is_reported_there(write):
    base = write("epochs: 3\noptimizer:\n  name: adamm\n", "base.yaml")
    with pytest.raises(UserError, match=r"optimizer\.name") as refused:
        read_grid(write(JOB + "name: s\nbase: base.yaml\ngrid: {seed: [0]}\n"))
    assert str(refused.value).startswith(f"{base}:3: ")


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("def build(:\n", "broken.py:1: not Python"),
        ("def bulid():\n    pass\n", "defines no function 'build'; did you mean 'bulid'"),
        ("\x00\x01", "not Python"),
    ],
)
def test_a_job_that_is_no_python_is_refused(write, tmp_path, job, message):
    (tmp_path / "jobs/broken.py").write_text(job)
    with pytest.raises(UserError, match=message):
        read_grid(write("name: s\njob: broken\ngrid: {seed: [0]}\n"))


def test_numbers_durations_and_words_are_read_as_people_mean_them(write):
    path = write(
        "job: tiny\noptimizer: {lr: 1e-3}\nresources: {time: 1:30:00, partition: no}\ncheckpoint_every: 90s\n",
        "run.yaml",
    )
    config = read_run_config(path)
    assert config.optimizer.lr == 0.001
    assert (config.resources.time, config.resources.partition) == ("1:30:00", "no")


def test_the_shipped_configurations_are_right():
    for path in (ROOT / "configs").glob("*.yaml"):
        if "name:" in path.read_text().split("job:")[0]:
            read_grid(path)


def test_checking_a_grid_imports_neither_torch_nor_the_job():
    code = (
        "import sys; from pathlib import Path; from mtlcluster.config.grid import read_grid;"
        f"read_grid(Path({str(ROOT / 'configs/demo.yaml')!r}));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'jobs.digits', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
