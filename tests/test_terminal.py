"""Output arrives on any standard output: a terminal with few characters or columns or without redrawing, a pipe whose
reader leaves, a full disk, or none at all. The work is done in every case.
"""

import fcntl
import os
import pty
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import h5py
import numpy as np
import pytest
from rig.handmade import add_runs, at_epoch, local_job, new_sweep

from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.status import read_status

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "mtlcluster"]
ERROR = "ValueError: 任务 « é » \udcff – loss → ∞ in /data/é.npy"
DRY_RUN = "submit grid.yaml --cluster local --dry-run"
LOOKS = ["methods", "status", "status digits --json", "logs digits failed", DRY_RUN]


@pytest.fixture
def sweep(project: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep with a running and a failed run whose words are of many alphabets, and a grid like that."""
    monkeypatch.chdir(project)
    sweep = new_sweep(project / "runs")
    best = {"value": "情感分類/accuracy", "direction": "max", "number": 0.5, "epoch": 3}
    runs = {"running-a1": at_epoch(3, best=best), "failed-b2": at_epoch(3, "failed", error=ERROR, best=best)}
    add_runs(sweep, local_job(os.getpid()), runs)
    sweep.run("failed-b2").log.write_bytes("Fehler: größe 任务\n".encode() + b"\xff\xfe half\n")
    (project / "dâta").mkdir()
    grid = "name: grid\njob: tiny\nset: {data.path: ./dâta}\ngrid: {seed: [1]}      # à, 任务\n"
    (project / "grid.yaml").write_text(grid, "utf-8")
    return sweep


def run(verb: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        [*COMMAND, *shlex.split(verb)], env={**variables, **environment}, capture_output=True, timeout=60
    )


@pytest.fixture(scope="session")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale whose characters are those of Western Europe."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is missing")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / "en_US"]
    subprocess.run(command, capture_output=True)  # it prints warnings
    return {"LOCPATH": str(folder), "LC_ALL": "en_US"}


@pytest.mark.parametrize("terminal", ["latin-1", "ascii", "C", "POSIX without UTF-8", "UTF-8"])
def test_a_terminal_shows_what_it_can(sweep, latin_1, terminal):
    environments = {
        "latin-1": latin_1,
        "ascii": {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C.UTF-8"},
        "C": {"LC_ALL": "C"},
        "POSIX without UTF-8": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "UTF-8": {"LC_ALL": "C.UTF-8"},
    }
    encoding = {"latin-1": "latin-1", "ascii": "ascii", "POSIX without UTF-8": "ascii"}.get(terminal, "utf-8")
    said = {}
    for verb in LOOKS:
        done = run(verb, **environments[terminal])
        assert (done.returncode, done.stderr) == (0, b""), verb
        said[verb] = done.stdout.decode(encoding)
    assert "failed" in said["status"]
    assert "digits" in said["status digits --json"]
    assert ("größe" if encoding == "latin-1" else "gro?e" if encoding == "ascii" else "größe 任务") in (
        said["logs digits failed"].replace("ss", "?")
    )


@pytest.mark.parametrize("verb", [*LOOKS, "clusters", "collect digits", "status missing"])
def test_a_reader_that_leaves_is_no_error(sweep, verb):
    """As in other tools: the command ends by SIGPIPE, without a message."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *shlex.split(verb)], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    own_mistake = verb in ("collect digits", "status missing")  # reported on standard error
    assert done.returncode == (2 if own_mistake else -13)
    assert bool(done.stderr) == own_mistake
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_named_once(sweep, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    for verb in LOOKS:
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*COMMAND, *shlex.split(verb)], stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 2, verb
        assert done.stderr.decode() == "mtlcluster: standard output: No space left on device\n", verb


@pytest.fixture
def clips(project: Path) -> Path:
    (project / "clips").mkdir()
    for clip in range(2):
        np.save(project / "clips" / f"{clip}_rgb.npy", np.ones((3, 4), np.float32))
    return project / "packed.h5"


PACK = ["pack-features", "clips", "packed.h5"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_without_any_terminal_the_work_is_done(sweep, clips, closed):
    """Also, no file that is opened is taken for standard output."""
    for arguments, code in ((PACK, 0), (["status"], 0), (["status", "missing"], 2)):
        command = f"exec {shlex.join([*COMMAND, *arguments])} {closed}"
        done = subprocess.run(["bash", "-c", command], start_new_session=True, capture_output=True, timeout=60)
        assert done.returncode == code, arguments
        assert b"Traceback" not in done.stderr
    with h5py.File(clips) as packed:
        assert len(packed) > 0
    assert read_status(sweep.run("running-a1").status).state == "running"


def test_a_command_that_changes_something_finishes_when_nobody_listens(sweep, clips):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *PACK], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (-13, b"")
    assert clips.exists()


def in_terminal(verb: str, columns: int, **environment: str) -> tuple[int, str]:
    """The verb's exit status, and its output on a terminal with a number of columns."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *shlex.split(verb)], env={**variables, "TERM": "xterm", **environment},
        stdin=subprocess.DEVNULL, stdout=inside, stderr=inside, start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    shown = b""
    while True:
        try:
            chunk = os.read(outside, 2**16)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(outside)
    return process.wait(), shown.decode("utf-8", "replace").replace("\r\n", "\n")


def test_forty_columns_are_enough(sweep):
    for verb in ("status", "methods", "methods gradnorm"):
        code, shown = in_terminal(verb, 40, NO_COLOR="1", TERM="dumb")
        assert code == 0, shown
        assert "\x1b" not in shown
        too_wide = [line for line in shown.splitlines() if len(line) > 40 and " " in line.strip()]
        commands = ("mtlcluster ", "  method: {")
        assert not [line for line in too_wide if not any(word in line for word in commands)], verb


def test_a_dumb_terminal_is_not_redrawn_and_a_colourless_one_has_no_colours(sweep):
    code, shown = in_terminal("status --watch", 80, TERM="dumb")
    assert (code, shown) == (2, "mtlcluster: --watch needs a terminal; without one, repeat `mtlcluster status`\n")
    _, coloured = in_terminal("status", 80)
    _, plain = in_terminal("status", 80, NO_COLOR="1")
    assert "\x1b[31m" in coloured
    assert "\x1b[3" not in plain
