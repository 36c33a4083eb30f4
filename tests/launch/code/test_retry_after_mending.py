"""`retry` after the job was mended: runs without a checkpoint take today's code; for others the user is told how."""

import fcntl
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtlcluster.cli import app
from mtlcluster.config.run import read_run_config


def call(project: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--runs", str(project / "runs")])
    assert result.exit_code == 0, result.output
    return result.output


def mend(project: Path, name: str = "jobs/tiny.py") -> None:
    path = project / name
    path.write_text(path.read_text().replace("BUG", "") + "# mended\n")


def save(sweep, part: str) -> None:
    folder = sweep.sweep.run(sweep.run(part)).checkpoints
    folder.mkdir()
    (folder / "step-000000003.pt").write_text("weights")
    (folder / "step-000000003.pt.sha256").write_text("its checksum")


def wait_until_failed(sweep, *parts: str) -> None:
    """Waits until the runs have failed and their worker has released them, a moment later."""
    for part in parts:
        sweep.wait(part, "failed", seconds=120)
        with open(sweep.sweep.run(sweep.run(part)).folder / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


def code_of(sweep, part: str) -> Path:
    return sweep.sweep.code / read_run_config(sweep.sweep.run(sweep.run(part)).config).origin.code


def wait_for_another(sweep, part: str) -> None:
    deadline = time.monotonic() + 60
    while (status := sweep.status(part)) is None or status.submission == "0001" or status.state != "failed":
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def test_a_corrected_bug_is_corrected_in_the_retry(project, make_grid, submit_locally):
    """With real training, as a new user would do it."""
    job = project / "jobs" / "tiny.py"
    job.write_text(job.read_text().replace("train = make(", "train = BUGmake("))
    sweep = submit_locally(make_grid(grid={"seed": [0]}, set={"epochs": 1}))
    wait_until_failed(sweep, "")
    assert "the code has changed" not in call(project, "status", "sweep")
    mend(project)
    said = call(project, "status", "sweep")
    assert "the code has changed since (jobs/tiny.py): mtlcluster retry sweep" in said
    assert "--restart" not in said
    assert "1 of them with the code as it is now, because nothing had been saved" in call(project, "retry", "sweep")
    sweep.wait("", "done", seconds=120)


@pytest.fixture
def failed(project, make_grid, fake_child, submit_locally):
    """A run that failed after a checkpoint and one that failed before."""
    (project / "helper.py").write_text("")
    (project / "jobs" / "tiny.py").write_text("import helper\n" + (project / "jobs" / "tiny.py").read_text())
    sweep = submit_locally(make_grid(grid={"data.path": ["fails"], "seed": [0, 1]}))
    wait_until_failed(sweep, "seed=0", "seed=1")
    save(sweep, "seed=0")
    return sweep


@pytest.mark.parametrize("name", ["jobs/tiny.py", "helper.py"])
def test_what_has_saved_goes_on_as_it_began_and_it_is_said_what_takes_todays_code(failed, project, name):
    began = code_of(failed, "seed=0")
    mend(project, name)
    said = call(project, "status", "sweep")
    assert f"the code has changed since ({name}): mtlcluster retry sweep --runs" in said
    assert "takes it for the 1 that saved nothing; mtlcluster retry sweep RUN --restart" in said
    said = call(project, "retry", "sweep")
    assert "1 of them with the code as it is now, because nothing had been saved" in said
    assert f"the code has changed since ({name}): mtlcluster retry sweep RUN --restart takes it, from scratch" in said
    assert code_of(failed, "seed=0") == began
    assert "# mended" in (code_of(failed, "seed=1") / name).read_text()
    assert (failed.sweep.run(failed.run("seed=0")).checkpoints / "step-000000003.pt").exists()
    wait_for_another(failed, "seed=0")
    wait_for_another(failed, "seed=1")


def test_a_checkpoint_without_its_checksum_is_none(failed, project):
    """A checkpoint that was not finished does not count."""
    checkpoints = failed.sweep.run(failed.run("seed=0")).checkpoints
    (checkpoints / "step-000000003.pt.sha256").unlink()
    mend(project)
    assert "2 of them with the code as it is now" in call(project, "retry", "sweep")
    assert code_of(failed, "seed=0") == code_of(failed, "seed=1")


@pytest.mark.parametrize("change", ["nothing", "another job", "a text beside it"])
def test_without_a_change_of_the_job_nothing_is_said(failed, project, change):
    if change == "another job":
        mend(project, "jobs/skipping.py")
    elif change == "a text beside it":
        (project / "notes.txt").write_text("mended")
    assert "the code has changed" not in call(project, "status", "sweep")
    assert "the code has changed" not in call(project, "retry", "sweep")


def test_a_method_of_ones_own_counts_as_code(project, make_grid, fake_child, submit_locally):
    method = project / "mine.py"
    method.write_text(
        "from mtlcluster import gradient\n@gradient\n"
        "class Mine:\n    def weights(self, gramian, active):\n        return BUG1\n"
    )
    grid = make_grid(grid={"method": ["mine.py:Mine"], "data.path": ["fails"]})
    sweep = submit_locally(grid)
    wait_until_failed(sweep, "")
    mend(project, "mine.py")
    assert "the code has changed since (own_methods/mine.py)" in call(project, "status", "sweep")
    call(project, "retry", "sweep")
    assert "return 1" in (code_of(sweep, "") / "own_methods" / "mine.py").read_text()


def test_where_the_project_is_not_the_runs_go_on_with_the_code_they_have(failed, project):
    began = code_of(failed, "seed=1")
    (project / "jobs").rename(project / "moved")
    assert "the code has changed" not in call(project, "status", "sweep")
    assert "submitted 2 runs" in call(project, "retry", "sweep")
    assert code_of(failed, "seed=1") == began


def test_a_job_that_is_no_python_now_is_refused_and_status_goes_on(failed, project):
    (project / "jobs" / "tiny.py").write_text("def build(:\n")
    assert "2 failed of 2" in call(project, "status", "sweep")
    result = CliRunner().invoke(app, ["retry", "sweep", "--runs", str(project / "runs")])
    assert result.exit_code == 2
    assert "tiny.py:1: not Python" in result.output
    assert failed.status("seed=1").submission == "0001"
