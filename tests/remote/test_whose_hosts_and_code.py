"""C4, C6: with a folder that somebody sent, no host is called, and no code is run before the user agrees.

An `ssh` and an `rsync` that record their calls are first in PATH.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rig.slurm_cluster import SlurmCluster

from mtlcluster.cli import app
from mtlcluster.launch.run_status import observe
from mtlcluster.remote.ssh import Connection
from mtlcluster.sweep.folder import Sweep

HOSTS = "arnold:\n  host: stranger.example\nuh:\n  host: stranger.example\n  root: ~/uh\n"


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the recording ssh and rsync write their calls to."""
    record = tmp_path / "called"
    for name in ("ssh", "rsync"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$@" >> {record}\nexit 255\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return record


@pytest.fixture
def sent(make_grid, project: Path, fake_child, submit_locally, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a sweep of another user, as it arrives here. It is the current folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "their home"))
    local = submit_locally(make_grid(grid={"data.path": ["fine", "fails"]}))
    local.wait("fine", "done")
    local.wait("fails", "failed")
    sweep = local.sweep
    (sweep.folder / "clusters").mkdir()
    (sweep.folder / "clusters/arnold.json").write_text(json.dumps({"format": 1, "time": 1.0, "runs": []}))
    folder = tmp_path / "home/downloads/theirs"
    shutil.copytree(project, folder)
    text = (folder / "runs/sweep/sweep.yaml").read_text()
    assert str(project) in text
    (folder / "runs/sweep/sweep.yaml").write_text(text.replace(str(project), str(folder)))
    for place in ("", "configs", "runs", "runs/sweep", "jobs"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "clusters.yaml").write_text(HOSTS)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return folder


def call(*words: str) -> Result:
    return CliRunner().invoke(app, words, prog_name="mtlcluster")


def test_no_host_that_a_sent_folder_names_is_called(sent: Path, called: Path) -> None:
    for words in (
        ["status"], ["status", "sweep"], ["status", "--json"], ["collect"], ["collect", "sweep"], ["clusters"],
        ["logs", "sweep", "fails"], ["cancel", "sweep", "--yes"], ["retry", "sweep", "nothing", "--yes"],
        ["status", "elsewhere"], ["logs", "sweep", "fine", "-f"], ["status", "--runs", "../theirs/runs"],
    ):  # fmt: skip
        call(*words)
        assert not called.exists(), (words, called.read_text())
    assert "will count once" in call("clusters").output


def test_a_retry_of_a_sent_sweep_takes_no_cluster_from_its_files(sent: Path, called: Path) -> None:
    sweep = Sweep(sent / "runs/sweep")
    for run in sweep.runs():
        run.config.write_text(run.config.read_text().replace("cluster: local", "cluster: arnold"))
    done = call("retry", "sweep", "--yes")
    assert done.exit_code != 0
    assert "no cluster 'arnold'" in done.output
    assert not called.exists()


def test_a_user_s_own_cluster_files_count_where_the_user_has_named_them(
    make_grid, project: Path, fake_child, called: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's own project, with a cluster file beside the grid."""
    monkeypatch.chdir(project)
    make_grid("mine", grid={"data.path": ["fine"]})
    (project / "configs").mkdir()
    (project / "mine.yaml").rename(project / "configs/mine.yaml")
    (project / "configs/clusters.yaml").write_text("mine:\n  host: mine.example\n")
    call("status")
    assert not called.exists()  # nothing has been submitted yet
    call("submit", "configs/mine.yaml", "--cluster", "mine")  # it names the grid
    assert "mine.example" in called.read_text()


def test_setup_of_a_cluster_names_the_file_that_has_it(project: Path, called: Path, monkeypatch) -> None:
    monkeypatch.chdir(project)
    (project / "clusters.yaml").write_text("mine:\n  host: mine.example\n")
    call("clusters")
    assert not called.exists()
    call("setup", "--cluster", "mine")
    assert "mine.example" in called.read_text()
    called.unlink()
    call("status")
    assert "mine.example" in called.read_text()
    own = Path(os.environ["HOME"], ".config/mtlcluster")
    own.mkdir(parents=True)
    (own / "clusters.yaml").write_text("other:\n  host: other.example\n")
    (project / "sub/configs").mkdir(parents=True)
    monkeypatch.chdir(project / "sub")
    (project / "sub/configs/clusters.yaml").write_text("other:\n  host: stranger.example\n")
    called.unlink()
    call("setup", "--cluster", "other")  # the user's own comes first
    assert "other.example" in called.read_text()
    assert "stranger" not in called.read_text()


def test_a_grid_that_was_submitted_from_here_is_remembered(
    make_grid, project: Path, fake_child, submit_locally, called: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "clusters.yaml").write_text("mine:\n  host: mine.example\n")
    local = submit_locally(make_grid(grid={"data.path": ["fine"]}))
    local.wait("fine", "done")
    monkeypatch.chdir(project.parent)
    call("status", "--runs", str(project / "runs"))
    assert "mine.example" in called.read_text()


def test_code_of_a_sent_folder_is_run_only_when_the_user_says_so(sent: Path) -> None:
    sweep = Sweep(sent / "runs/sweep")
    ran = sent / "ran"
    for code in sweep.code.iterdir():
        for file in code.rglob("*.py"):
            file.write_text(f"open({str(ran)!r}, 'w').close()\n")
        (code / "files.sha256").unlink()  # else the changes would be noticed, and repaired
    run = next(run for run in sweep.runs() if "fails" in run.name)
    one = f"sweep/{run.name}"
    before = {path: path.read_bytes() for path in sent.rglob("*") if path.is_file()}
    for words in (
        ["retry", "sweep"], ["retry", one.partition("/")[0], run.name], ["retry", "sweep", "--restart"],
        ["evaluate", one], ["evaluate", str(run.folder)], ["replay", one], ["replay", run.name],
        ["submit", "sweep.yaml", "--cluster", "local"],
    ):  # fmt: skip
        done = call(*words)
        assert done.exit_code == 2, words
        assert "was not submitted by you on this machine" in done.output
        assert "--yes" in done.output
        assert {path: path.read_bytes() for path in sent.rglob("*") if path.is_file()} == before
    for verb in ("evaluate", "replay"):
        assert call(verb, one, "--yes").exit_code == 0
        assert ran.exists()
        ran.unlink()
    run.config.write_text(run.config.read_text().partition("origin:")[0])  # as if it belonged to no sweep
    for verb in ("evaluate", "replay"):
        assert call(verb, str(run.folder)).exit_code == 2
    assert not ran.exists()


def test_a_sent_folder_ends_no_job_of_the_user_s_unless_the_user_says_so(sent: Path, slurm: SlurmCluster) -> None:
    """The folder names another job of the user: its sender has guessed the id."""
    job = slurm.ask("sbatch", "--parsable", "--wrap=sleep 300", "--output=/dev/null")
    sweep = Sweep(sent / "runs/sweep")
    lines = [json.loads(line) for line in sweep.submissions.read_text().splitlines()]
    for line in lines:
        line |= {"cluster": "slurm"} if line["event"] == "begin" else {"jobs": [job]}
    sweep.submissions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for run in sweep.runs():
        run.status.unlink(missing_ok=True)
    done = call("cancel", "sweep")
    assert done.exit_code == 2
    assert f"cancel ends the jobs that it names: {job}" in done.output
    assert job in slurm.jobs()


def test_code_that_a_cluster_sends_is_not_the_user_s_own(
    make_grid, project: Path, fake_child, submit_locally, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node has changed the code that it was sent, and added code."""
    monkeypatch.chdir(project)
    local = submit_locally(make_grid(grid={"data.path": ["fine"]}))
    local.wait("fine", "done")
    sweep = local.sweep
    [run] = sweep.runs()
    [code] = sweep.code.iterdir()
    before = (code / "mtlcluster/training/commands/evaluate.py").read_bytes()
    ran = tmp_path / "ran"
    there = tmp_path / "there"
    shutil.copytree(sweep.folder, there)
    for file in (there / "code" / code.name).rglob("*.py"):
        file.write_text(f"open({str(ran)!r}, 'w').close()\n")
    (project / "clusters.yaml").write_text("arnold:\n  host: arnold\n")
    rows = [vars(found) | {"cluster": "arnold", "job_id": "7"} for found in observe([sweep])]
    answer = {"version": "x", "runs": rows, "job_files": {}}
    sweep.clusters.mkdir()
    (sweep.clusters / "arnold.json").write_text(json.dumps({"format": 1, "time": 1.0, "runs": rows}))

    def pull(_: Connection, source: str, target: Path, *options: str, names: object = None) -> list[str]:
        subprocess.run(["rsync", "-r", "--ignore-times", *options, f"{there}/", f"{target}/"], check=True)
        return []

    monkeypatch.setattr(Connection, "run", lambda *_, **__: json.dumps(answer).encode())
    monkeypatch.setattr(Connection, "pull", pull)
    call("collect", "sweep", "--checkpoints", "all")
    assert (code / "mtlcluster/training/commands/evaluate.py").read_bytes() == before
    call("evaluate", f"sweep/{run.name}")  # the user is not asked
    assert not ran.exists()
    (there / "code" / code.name).rename(there / "code/0123456789ab")
    (there / run.name / "config.yaml").write_text(run.config.read_text().replace(code.name, "0123456789ab"))
    call("collect", "sweep", "--checkpoints", "all")
    assert "0123456789ab" in run.config.read_text()
    done = call("evaluate", f"sweep/{run.name}")
    assert (done.exit_code, ran.exists()) == (2, False)
    assert "was not submitted by you on this machine" in done.output


def test_nobody_is_asked_about_an_own_sweep_but_about_another_in_its_place(
    make_grid, project: Path, fake_child, submit_locally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    local = submit_locally(make_grid(grid={"data.path": ["fails"]}))
    local.wait("fails", "failed")
    done = call("retry", "sweep")
    assert done.exit_code == 0, done.output
    deadline = time.monotonic() + 60
    while (local.status().submission, local.status().state) != ("0002", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folder = project / "runs/sweep"
    folder.rename(project / "runs/gone")
    shutil.copytree(project / "runs/gone", folder, ignore=lambda *_: [".submitted"])  # sent by somebody
    assert call("retry", "sweep").exit_code == 2
    (folder / ".submitted").write_text("0" * 32)
    assert call("retry", "sweep").exit_code == 2
    monkeypatch.setenv("XDG_STATE_HOME", str(project / "state"))  # another user's
    shutil.rmtree(folder)
    (project / "runs/gone").rename(folder)
    assert call("retry", "sweep").exit_code == 2
    monkeypatch.delenv("XDG_STATE_HOME")
    assert call("retry", "sweep").exit_code == 0


def test_without_a_home_that_can_be_written_one_is_asked(
    make_grid, project: Path, fake_child, submit_locally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    monkeypatch.chdir(project)
    submit_locally(make_grid(grid={"data.path": ["fails"]})).wait("fails", "failed")
    assert call("retry", "sweep").exit_code == 2
