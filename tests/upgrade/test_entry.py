"""The entry of all processes: its names, and those of code that is older than it."""

import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from upgrade.make_old_sweep import ARCHIVE

from mtlcluster import _entry
from mtlcluster.config.cluster import Cluster, ClusterOptions
from mtlcluster.errors import ClusterError, UserError
from mtlcluster.launch.code import changes
from mtlcluster.remote.clusters import RemoteCluster
from mtlcluster.sweep.folder import Sweep


@pytest.fixture
def unpacked(tmp_path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "project" / "runs" / "old"


@pytest.fixture
def old_code(unpacked) -> Path:
    [code] = (unpacked / "code").iterdir()
    return code


def test_every_name_has_its_module():
    assert all(importlib.util.find_spec(module) for module in _entry.MODULES.values())
    library = Path(_entry.__file__).parents[1]
    assert all((library / file).is_file() for file in _entry.essential_files(library))
    assert _entry.start_script(library).is_file()


def test_every_old_name_is_in_the_old_code(old_code):
    for name in _entry.OLD:
        option, words = _entry.python_arguments(name, old_code)
        module = words if option == "-m" else words.split("from ")[1].split(" import")[0]
        assert (old_code / f"{module.replace('.', '/')}.py").is_file()
    assert _entry.start_script(old_code).is_file()
    assert all((old_code / file).is_file() for file in _entry.essential_files(old_code))


def test_code_that_is_not_there_yet_will_be_of_this_version(tmp_path):
    """As for the script that a dry run shows."""
    assert _entry.python_arguments("slurm-worker", tmp_path) == ["-m", "mtlcluster._entry", "slurm-worker"]


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/python3 -m mtlcluster._entry worker /runs/sweep 0001",
        "/usr/bin/python3 -m mtlcluster.launch.local /runs/sweep 0001",
    ],
)
def test_a_worker_is_known_by_its_command_line_new_or_old(command):
    assert _entry.own_arguments("worker", command.split()) == ["/runs/sweep", "0001"]
    assert _entry.own_arguments("rank", command.split()) == []


def test_a_name_of_a_later_version_is_refused_in_words(tmp_path):
    command = [sys.executable, "-m", "mtlcluster._entry", "foretell", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "mtlcluster: the code of this run is too old for 'foretell'\n")


def test_old_code_without_a_list_of_its_files_is_damaged_only_if_it_is(unpacked, old_code):
    """Versions that kept no list are older still."""
    sweep, child = Sweep(unpacked), old_code / "mtlcluster" / "training" / "child.py"
    (old_code / "files.sha256").unlink()
    changes.mend(sweep, [old_code.name])
    child.unlink()
    with pytest.raises(UserError, match=r"is damaged: mtlcluster/training/child.py can't be written again"):
        changes.mend(sweep, [old_code.name])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/e/bin/python: No module named mtlcluster._entry", "arnold has an older version of mtlcluster; mtlcluster"),
        ("ModuleNotFoundError: No module named 'mtlcluster')", "mtlcluster is missing on arnold; mtlcluster setup"),
    ],
)
def test_a_cluster_with_an_older_version_is_told_from_one_without(monkeypatch, said, told):
    remote = RemoteCluster(Cluster("arnold", ClusterOptions(host="arnold")))

    def refuse(*_):
        raise ClusterError(said)

    monkeypatch.setattr(remote.connection, "run", refuse)
    with pytest.raises(ClusterError, match=told):
        remote.call("look", sweep="")
