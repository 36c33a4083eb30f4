"""What `status` prints, on terminals of several widths, into a pipe, and as JSON."""

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.handmade import add_runs, at_epoch, local_job, new_sweep

from mtlcluster.cli import app
from mtlcluster.launch.status_table import duration

ROOT = Path(__file__).parents[2]
LONG = "uncertainty-optimizer.lr=0.0003-model.width=1024-data.noise=0.25-seed=10-0123456789"  # 84 characters


def on_terminal(width: int, *arguments: str) -> str:
    """What the command writes on a terminal of that width, without colours."""
    main, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mtlcluster", *arguments]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    written = b""
    try:
        while chunk := os.read(main, 65536):
            written += chunk
    except OSError:  # the other side is closed
        pass
    os.close(main)
    assert process.wait() == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")


def into_pipe(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def runs(tmp_path) -> Path:
    sweep = new_sweep(tmp_path)
    error = "RuntimeError: shapes (64x1024 and 512x10) " + "differ " * 20
    statuses = {
        "pcgrad-seed=0-a1b2c3d4e5": at_epoch(5),
        "dsg+pcgrad-seed=1-0f1e2d3c4b": at_epoch(20, "done"),
        "equal-seed=2-aaaaaaaaaa": at_epoch(2, "failed", error=error),
        "equal-seed=3-bbbbbbbbbb": None,
    }
    add_runs(sweep, local_job(os.getpid()), statuses)
    return tmp_path


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_names_are_whole_and_lines_fit_on_any_terminal(runs, width):
    add_runs(new_sweep(runs, "long"), local_job(os.getpid()), {LONG: at_epoch(5)})
    lines = on_terminal(width, "status", "--runs", str(runs)).splitlines()
    for name in ("pcgrad-seed=0-a1b2c3d4e5", "dsg+pcgrad-seed=1-0f1e2d3c4b", LONG):
        assert any(line.startswith(name) for line in lines), name
    running = next(line for line in lines if line.startswith("pcgrad-"))
    assert "running" in running
    assert "5/20" in running
    assert ("local n1" in running) == (width >= 100)  # the least important columns go first
    assert all(len(line.rstrip()) <= width for line in lines if "mtlcluster" not in line and not line.startswith(LONG))
    assert "digits: 1 running, 1 queued, 1 done, 1 failed of 4" in lines


def test_a_pipe_gets_everything_as_plain_text(runs):
    lines = into_pipe("status", "digits", "--runs", str(runs)).splitlines()
    assert " ".join(lines[0].split()) == "run state epoch left train loss val. loss best mean_loss took where"
    [running] = [line for line in lines if line.startswith("pcgrad")]
    assert " ".join(running.split()) == ("pcgrad-seed=0-a1b2c3d4e5 running 5/20 3m08s 1.500 1.250 1.200 1m02s local n1")
    assert any(line.startswith("    RuntimeError: shapes") and line.endswith("differ") for line in lines)
    assert f"  what went wrong: mtlcluster logs digits equal-seed=2-aaaaaaaaaa --runs {runs}" in lines


def test_of_many_runs_only_those_that_matter_are_shown(tmp_path):
    sweep = new_sweep(tmp_path)
    statuses = {f"run-{i:02}": at_epoch(20, "done") for i in range(40)} | {"run-40": None, "run-41": at_epoch(3)}
    add_runs(sweep, local_job(os.getpid()), statuses)
    add_runs(new_sweep(tmp_path, "other"), "local:x:1:1", {"run-99": at_epoch(2, "failed", error="boom")})
    short, full = (into_pipe("status", "--runs", str(tmp_path), *more) for more in ([], ["--all"]))
    assert re.findall(r"^run-\d\d", short, re.MULTILINE) == ["run-41", "run-99"]
    assert "digits: 1 running, 1 queued, 40 done of 42; 41 not shown (--all)" in short
    assert len(re.findall(r"^run-\d\d", full, re.MULTILINE)) == 43


def test_json_has_the_documented_fields_and_is_strict(runs):
    sweep = new_sweep(runs, "nan")
    add_runs(sweep, "local:another-host:1:1", {"run-1": at_epoch(3, latest={"train/left/loss": float("nan")})})
    refuse = lambda constant: pytest.fail(f"{constant} is not JSON")  # noqa: E731
    found = json.loads(into_pipe("status", "--json", "--runs", str(runs)), parse_constant=refuse)["runs"]
    table = (ROOT / "docs" / "status-json.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert [list(run) for run in found] == [documented] * 5
    unverified = found[-1]
    assert (unverified["sweep"], unverified["state"], unverified["verified"]) == ("nan", "running", False)
    assert unverified["latest"] == {"train/left/loss": None}
    assert "running?" in into_pipe("status", "nan", "--runs", str(runs))


def test_nothing_there_is_no_error(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert "mtlcluster submit GRID" in into_pipe("status", "--runs", str(folder))
        assert json.loads(into_pipe("status", "--json", "--runs", str(folder))) == {"runs": []}


def test_durations():
    assert [duration(s) for s in (0.4, 59.6, 192, 3900, 183600, None)] == ["0s", "1m00s", "3m12s", "1h05m", "2d03h", ""]
