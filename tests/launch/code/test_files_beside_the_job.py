"""Files beside the job: possible data and credentials are copied only if asked for; the user is told what is copied."""

import os

import pytest

from mtlcluster.launch.code.snapshot import take
from mtlcluster.launch.dry_run import preview

SECRETS = [".env", "prod.env", "credentials.json", "deep/vocab.json", ".netrc", ".aws/credentials.yaml", "key.pem"]


@pytest.fixture
def secrets(project):
    for name in SECRETS:
        (project / "jobs" / name).parent.mkdir(exist_ok=True)
        (project / "jobs" / name).write_text("secret")
    (project / "jobs" / "labels.txt").write_text("funny")
    return project


def test_credentials_and_data_beside_the_job_stay_where_they_are(secrets, make_grid, fake_child, submit_locally):
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]})).sweep
    assert not [path for path in sweep.code.rglob("*") if path.is_file() and path.read_bytes() == b"secret"]
    assert list(sweep.code.glob("*/jobs/labels.txt"))


def test_what_is_taken_and_what_is_not_is_named(secrets, make_grid):
    grid = make_grid(grid={"seed": [0]})
    text = preview(grid, secrets / "runs", "local")
    for taken in ("labels.txt", "skipping.py", "tiny.py"):
        assert f"\n  jobs/{taken}\n" in text
    [said] = [line for line in text.splitlines() if "credentials.json" in line]
    assert "jobs/credentials.json, jobs/deep/vocab.json" in said
    assert "`code: [jobs/credentials.json]` in the grid takes it" in said


def test_it_is_said_at_submit_and_taken_where_the_grid_asks(secrets, make_grid, fake_child, submit_locally, capsys):
    submit_locally(make_grid(grid={"data.path": ["fine"]}))
    assert "jobs/deep/vocab.json" in capsys.readouterr().out
    grid = make_grid("asking", grid={"seed": [0]}, code=["jobs/deep/vocab.json"])
    code = take(grid.job, grid.methods, grid.code)
    taken = {name for name in code.files if name.startswith("jobs/") and not name.endswith(".py")}
    assert taken == {"jobs/labels.txt", "jobs/deep/vocab.json"}
    assert not any("vocab.json" in remark for remark in code.remarks)


def test_of_very_many_files_a_few_are_named(project, make_grid):
    for number in range(500):
        (project / "jobs" / f"{number}.json").write_text("{}")
        (project / "jobs" / f"job{number}.py").write_text("")
    text = preview(make_grid(grid={"seed": [0]}), project / "runs", "local")
    assert "and 495 more" in text
    assert "… and 40" in text  # of the 500 and the project's own jobs 100 are named
    assert len(text.splitlines()) < 120


def test_what_is_no_file_is_passed_over(project, make_grid):
    (project / "jobs" / "gone.txt").symlink_to(project / "nowhere")
    os.mkfifo(project / "jobs" / "pipe.py")
    (project / "jobs" / os.fsdecode(b"caf\xe9.txt")).write_text("")
    submitted = preview(make_grid(grid={"seed": [0]}), project / "runs", "local")
    assert "pipe.py" not in submitted
    assert "gone.txt" not in submitted
    assert "caf\N{REPLACEMENT CHARACTER}.txt" in submitted
