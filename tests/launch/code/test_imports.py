"""The modules of its project that a job imports are kept with its runs. They are found by parsing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.config.job_file import find_job
from mtlcluster.errors import UserError
from mtlcluster.launch.code.snapshot import keep, take
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.preflight import check

# Everything in a project that a job may import, and other files.
FILES = {
    "helper/__init__.py": "from .deep.inner import WIDTH\nfrom helper import sizes as more",
    "helper/deep/inner.py": "import alone\nWIDTH = alone.WIDTH",  # deep/ has no __init__.py
    "helper/sizes.py": "import chain_one",
    "helper/words.txt": "a word",
    "alone.py": "WIDTH = 8",
    "chain_one.py": "def f():\n    import chain_two",
    "chain_two.py": "try:\n    import chain_one\nexcept ImportError:\n    pass",
    "src/lab/__init__.py": "",
    "src/lab/layers/__init__.py": "from ..tools import DEPTH",
    "src/lab/tools.py": "DEPTH = 1",
    "spaced/part.py": "PART = 1",  # a folder without __init__.py
    "spaced/unused.py": "",
    "statistics.py": "MINE = 'statistics'",  # has the name of Python's own module, which torch and the worker import
    "yaml/__init__.py": "raise RuntimeError('the project has a yaml of its own')",
    "jobs/common.py": "COMMON = 1",
    "other/__init__.py": "raise RuntimeError('not imported')",
    "tests/test_it.py": "import helper",
    "notebook.py": "import helper",
    "setup.py": "",
}
IMPORTS = """
import helper.deep.inner
from helper import WIDTH
from lab.layers import DEPTH
from spaced import part
from jobs.common import COMMON
import common
def _late():
    import chain_one
_late()
assert (helper.deep.inner.WIDTH, DEPTH, part.PART, COMMON, common.COMMON) == (8, 1, 1, 1, 1)
"""
TAKEN = {
    "helper/__init__.py", "helper/deep/inner.py", "helper/sizes.py", "helper/words.txt", "alone.py", "chain_one.py",
    "chain_two.py", "src/lab/__init__.py", "src/lab/layers/__init__.py", "src/lab/tools.py", "spaced/part.py",
}  # fmt: skip


def add(project: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text + "\n")


def taken(project: Path, job: str = "tiny", **options) -> set[str]:
    """The files of the project in the code of its runs, without jobs/."""
    files = take(find_job(job, project), **options).files
    return {name for name in files if not name.startswith(("jobs/", "mtlcluster/"))}


def import_in_job(project: Path, text: str, job: str = "tiny") -> None:
    path = project / "jobs" / f"{job}.py"
    path.write_text(path.read_text() + text)


def test_train_check_and_every_job_find_what_the_job_imports(project, make_grid, tmp_path, monkeypatch, submit_locally):
    """Also what is in the user's PYTHONPATH, which comes last."""
    add(project, FILES)
    add(tmp_path / "shared", {"of_path.py": "", "alone.py": "raise RuntimeError('not this one')"})
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:{tmp_path / 'shared'}")
    import_in_job(project, IMPORTS + "import statistics, yaml, of_path\n")
    grid = make_grid(grid={"seed": [0]}, set={"epochs": 1})
    check(grid, print)
    sweep = submit_locally(grid)
    sweep.wait("", "done", "failed", seconds=120)
    assert sweep.status().state == "done", sweep.log()
    [code] = sweep.sweep.code.iterdir()
    there = {str(path.relative_to(code)) for path in code.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there >= TAKEN
    assert not there & {"other/__init__.py", "tests/test_it.py", "notebook.py", "setup.py", "spaced/unused.py"}
    assert not there & {"statistics.py", "yaml/__init__.py"}, "they would take the place of those that the worker needs"
    run = {"job": "tiny", "data": {"metrics": False}, "epochs": 1}
    (project / "one.yaml").write_text(json.dumps(run))
    command = [sys.executable, "-m", "mtlcluster", "train", project / "one.yaml", "--folder", project / "trained"]
    done = subprocess.run(command, cwd=project.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_on_slurm_too(slurm, project, make_grid, tmp_path, monkeypatch, submit_to_slurm):
    """Also with a PYTHONPATH that an environment module sets, as in a cluster's `setup`."""
    add(project, FILES)
    add(tmp_path / "shared", {"of_path.py": "", "alone.py": "raise RuntimeError('not this one')"})
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:{tmp_path / 'shared'}")
    import_in_job(project, IMPORTS + "import statistics, yaml, of_path\n")
    submit_to_slurm(make_grid(grid={"seed": [0]}, set={"epochs": 1})).wait_until_done()


def test_the_check_sees_nothing_of_the_project_that_the_jobs_will_not(project, make_grid, monkeypatch):
    shutil.copy(project / "jobs/tiny.py", project / "jobs/other.py")
    add(project, {"hidden.py": "WIDTH = 8", "src/shy.py": ""})
    import_in_job(project, "import importlib\nimportlib.import_module('hid' + 'den')\n__import__('s' + 'hy')\n")
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:{project}:{project / 'src'}")
    with pytest.raises(UserError, match="No module named 'hidden'"):
        check(make_grid(grid={"seed": [0]}), print)
    add(project, {"hidden.py": "", "src/shy.py": "", "pack/__init__.py": "", "pack/words.csv": "a,b"})
    import_in_job(project, "import pack\nopen(pack.__path__[0] + '/words.csv').read()\n", "other")
    said: list[str] = []
    with pytest.raises(UserError, match=r"words.csv"):
        check(make_grid(grid={"seed": [0]}, job="other"), said.append)
    assert any("not in the code of the runs" in words and "`code: [pack/words.csv]`" in words for words in said)
    named = make_grid(grid={"seed": [0]}, code=["hidden.py", "src"])
    assert take(named.job, named.methods, named.code).files.keys() >= {"hidden.py", "src/shy.py"}


@pytest.mark.parametrize(
    ("imported", "files", "expected"),
    [
        ("from pack import *", ["pack/__init__.py", "pack/a.py"], {"pack/__init__.py", "pack/a.py"}),
        ("import pack.a as b", ["pack/__init__.py", "pack/a.py"], {"pack/__init__.py", "pack/a.py"}),
        ("from ns.a.b import c", ["ns/a/b/c.py", "ns/a/x.py"], {"ns/a/b/c.py"}),
        ("from ns.a import b", ["ns/a/b/__init__.py", "ns/a/b/c.py"], {"ns/a/b/__init__.py", "ns/a/b/c.py"}),
        ("from ns import a", ["src/ns/a.py", "ns/b.py"], {"src/ns/a.py"}),
        ("import both", ["both.py", "src/both.py"], {"both.py"}),
        ("import numpy, torch.nn, json", ["numpy/readme.txt", "torch/nn/x.py", "json.py"], set()),
        ("from . import common\nfrom .sub.x import y", ["jobs/sub/x.py", "x.py", "y.py"], set()),
        ("from mtlcluster import Task\nimport nowhere", ["nowhere.txt"], set()),
        ("if False:\n    import a\nelse:\n    import b", ["a.py", "b.py"], {"a.py", "b.py"}),
        ("class A:\n    async def f(self):\n        from a import x", ["a.py"], {"a.py"}),
    ],
)
def test_imports_are_followed_as_python_would(project, imported, files, expected):
    add(project, dict.fromkeys([*files, "jobs/common.py"], "# some text"))
    import_in_job(project, imported)
    found = taken(project)
    assert found - {"own_modules/json.py"} == expected


def test_relative_imports_and_other_jobs_lead_nowhere_else(project):
    add(project, {"jobs/mine/__init__.py": "from .data import x\nfrom ..shared import y\ndef build():\n    pass",
                  "jobs/mine/data.py": "import of_data\nx = 1", "jobs/shared.py": "import of_shared\ny = 1",
                  "jobs/unrelated.py": "import of_unrelated",
                  "of_data.py": "", "of_shared.py": "", "of_unrelated.py": ""})  # fmt: skip
    assert taken(project, "mine") == {"of_data.py", "of_shared.py"}
    assert taken(project) == set()


def test_a_method_of_ones_own_and_a_job_outside_of_jobs_bring_what_they_import(project, tmp_path):
    add(project, {"my_method.py": "import for_method", "for_method.py": "", "far.py": "", "exp/also.py": "",
                  "exp/run.py": "import near, far\ndef build(): 0", "exp/near/__init__.py": ""})  # fmt: skip
    assert taken(project, methods=[project / "my_method.py"]) == {"own_methods/my_method.py", "for_method.py"}
    assert taken(project, "exp/run.py:build") == {"exp/run.py", "exp/also.py", "exp/near/__init__.py", "far.py"}


def test_what_is_no_code_or_too_much_is_left_out_and_said(project):
    of_helper = ["__init__.py", ".secret.py", "__pycache__/x.py", "data.bin"]
    add(project, {f"helper/{name}": "" for name in of_helper})
    (project / "helper" / "big.txt").write_bytes(b" " * (2**20 + 1))
    for number in range(25):
        (project / "helper" / f"table-{number}.yaml").write_bytes(b" " * 2**20)
    (project / "helper" / "looped").symlink_to(project / "helper")
    (project / "elsewhere").mkdir()
    (project / "elsewhere" / "__init__.py").write_text("")
    (project / "linked").symlink_to(project / "elsewhere")
    (project / os.fsdecode(b"helper/caf\xe9.txt")).write_text("")
    (project / "compiled.abi3.so").write_text("")
    import_in_job(project, "import helper, linked, compiled\n")
    snapshot = take(find_job("tiny", project))
    names = [name for name in snapshot.files if name.startswith("helper/")]
    assert "helper/__init__.py" in names
    assert "linked/__init__.py" in snapshot.files
    assert not [name for name in names if ".secret" in name or "pycache" in name or "big" in name or ".bin" in name]
    assert 15 <= len(names) <= 21
    assert not keep(snapshot, project / "kept")
    for words, name in [("larger than 1 MB", "helper/big.txt"), ("more than 20 MB", "helper/table-"),
                        ("ends in none of", "helper/data.bin"), ("ends in none of", "compiled.abi3.so")]:  # fmt: skip
        assert any(words in remark and name in remark for remark in snapshot.remarks), words
    assert taken(project, asked=[project / "helper" / "big.txt"]) >= {"helper/big.txt"}
    for number in range(25):
        (project / "helper" / f"big-{number}.py").write_bytes(b"#" * 2**20)
    with pytest.raises(UserError, match="more than 20 MB"):
        take(find_job("tiny", project))


def test_a_huge_folder_is_not_searched(project, monkeypatch):
    """A folder that an import only may mean is not searched. A folder of code is searched up to a bound."""
    import mtlcluster.launch.code.imports

    monkeypatch.setattr(mtlcluster.launch.code.imports, "MOST", 1000)
    for number in range(1001):
        (project / f"{number}.bin").touch()
    (project / "src").mkdir()
    import_in_job(project, "import scratch.mine\n")
    add(project, {"scratch/mine.py": "", "scratch/data/x.py": ""})
    assert taken(project) == {"scratch/mine.py"}
    with pytest.raises(UserError, match="too many for code"):
        taken(project, asked=[project])


def test_a_folder_jobs_in_which_the_whole_project_lies_is_not_its_code(tmp_path):
    """For example in ~/jobs/mine/, beside other work of the user."""
    build = "def build(): pass\n"
    add(tmp_path / "jobs", {"mine/exp.py": build + "import near", "mine/near.py": "", "other/x.py": "", "y.py": build})
    files = take(find_job("exp.py:build", tmp_path / "jobs/mine")).files
    assert {name for name in files if not name.startswith("mtlcluster/")} == {"mine/exp.py", "mine/near.py"}
    for job, beside in [("../y.py:build", "mine"), ("y.py:build", ""), ("../jobs/y.py:build", "../configs")]:
        (tmp_path / "configs").mkdir(exist_ok=True)
        assert find_job(job, tmp_path / "jobs" / beside).reference == "jobs/y.py:build"
    add(tmp_path, {"jobs/pack/deep/z.py": build})
    assert find_job("jobs/pack/deep/z.py", tmp_path).reference == "jobs/pack/deep/z.py:build"


def test_code_that_the_grid_names_goes_too_and_must_be_of_the_project(project, make_grid):
    add(project, {"plugins/a.py": "import of_plugin", "plugins/weights.bin": "", "of_plugin.py": "", "vocab.json": ""})
    grid = make_grid(grid={"seed": [0]}, code=["plugins", "vocab.json"])
    files = take(grid.job, grid.methods, grid.code).files
    assert files.keys() >= {"plugins/a.py", "plugins/weights.bin", "of_plugin.py", "vocab.json"}
    without = make_grid(grid={"seed": [0]})
    assert [run.hash for run in grid.runs] == [run.hash for run in without.runs]
    for wrong, words in [("nowhere", "there is no file or folder"), ("../HOME", "is not in"), ("/etc", "is not in")]:
        (project / "wrong.yaml").write_text(f"name: wrong\njob: tiny\ngrid: {{seed: [0]}}\ncode: [{wrong}]\n")
        with pytest.raises(UserError, match=f"wrong.yaml:4: code: .*{words}"):
            read_grid(project / "wrong.yaml")


def test_what_no_snapshot_holds_is_named(project, make_grid, tmp_path, monkeypatch):
    """Such code is a package installed in editable mode, or lies in the user's PYTHONPATH."""
    add(tmp_path / "lab", {"src/mylab/__init__.py": "", "src/mylab_flat.py": ""})
    add(tmp_path / "shared", {"of_path.py": ""})
    monkeypatch.syspath_prepend(tmp_path / "lab" / "src")  # as the .pth file of such an installation does
    monkeypatch.setattr(sys, "path", [*sys.path[1:], sys.path[0]])
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:{tmp_path / 'shared'}")
    import_in_job(project, "import mylab.sub, mylab_flat, of_path, numpy, random\n")
    text = preview(make_grid(grid={"seed": [0]}), project / "runs", "local")
    assert f"mylab ({tmp_path / 'lab' / 'src' / 'mylab'}) is installed in editable mode" in text
    assert "mylab_flat" in text
    assert "numpy" not in text
    assert "PYTHONPATH stays behind the code of the runs" in text
    assert str(tmp_path / "shared") in text
