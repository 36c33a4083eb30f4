"""Text out of a file or from a cluster can't control a terminal, and none of its lines looks like one of ours."""

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.synthetic_sweep import add_run, history, make_sweep, method

from mtlcluster import printable
from mtlcluster.cli import app
from mtlcluster.collect.make_report import make_report
from mtlcluster.errors import ClusterError
from mtlcluster.remote import agent_reply
from mtlcluster.remote.shell import MARK
from mtlcluster.remote.ssh import Connection
from mtlcluster.sweep.status import Status, write_status

EVIL = [
    "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;cm0gLXJm\x1b\\", "\x9b2Jc", "\x9d0;t\x9c", "\x1bPq#0\x1b\\",
    "\x1bc", "over\rwritten", "one\ntwo: done", "\x0b\x0c\x08\x7f", "\u202egpj.exe", "\u2066x\u2069",
    "\u2028line\u2029", "\x85next", "\x00nul", "\u200bhidden", "\x1b", "\x1b[", "\x1b]unended", "\ud800",
]  # fmt: skip
FORBIDDEN = {*"\x1b\x9b\x9d\x07\x0b\x0c\x08\x7f\x00\x85\r", *"\u202e\u2066\u2069\u2028\u2029\u200b\ud800"}
GOOD = ["plain", "zwölf", "漢字 かな", "क्‍ष", "e\u0301", "👩‍🔬 →", "\u00a0", ""]


def clean(output: str, *also: str) -> bool:
    return not {*FORBIDDEN, *also} & {*output}


@pytest.mark.parametrize("evil", EVIL)
def test_control_sequences_are_removed_and_ordinary_text_stays(evil: str) -> None:
    assert clean(printable.line(f"before {evil} after"), "\n", "\t")
    assert clean(printable.text(f"before\t{evil}\nafter"))
    assert printable.line(f"before {evil} after").startswith("before ")
    assert printable.text(f"before\t{evil}\nafter").endswith("\nafter")


@pytest.mark.parametrize("good", GOOD)
def test_what_people_write_stays(good: str) -> None:
    assert printable.line(good) == good
    assert printable.text(f"{good}\n\t{good}\n") == f"{good}\n\t{good}\n"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MTLCLUSTER_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    sweep = make_sweep(tmp_path / "runs" / "sent")
    for number, evil in enumerate([*EVIL, "\n".join(EVIL)]):
        run = sweep.run(f"run-{number:08d}")
        run.folder.mkdir()
        best = {"value": evil, "direction": "min", "number": 1.0, "epoch": 1}
        write_status(run.status, Status("failed", host=evil, device=evil, error=f"E{evil}", notes=[evil], best=best))
        run.log.write_bytes(f"first\n{evil}\nlast\n".encode(errors="surrogatepass"))
    return tmp_path / "runs"


def call(*words: str) -> str:
    return CliRunner().invoke(app, words, prog_name="mtlcluster").output


def test_status_shows_a_sent_sweep_without_control_sequences(runs: Path) -> None:
    for words in (["status", "--all"], ["status", "--json"], ["collect"], ["retry", "sent"], ["logs", "sent"]):
        assert clean(call(*words)), words
    shown = call("status", "--all").splitlines()
    assert not [line for line in shown if line.startswith("two: done")]
    assert [line for line in shown if "Eone two: done" in line]
    assert all("\n" not in run["error"] for run in json.loads(call("status", "--json"))["runs"])


def test_a_terminal_gets_no_sequence_but_our_own_colours(runs: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path(printable.__file__).parents[1])}
    command = [sys.executable, "-m", "mtlcluster", "status", "--all"]
    with subprocess.Popen(command, stdout=follower, stdin=follower, cwd=runs.parent, env=environment) as process:
        os.close(follower)
        output = b""
        try:
            while chunk := os.read(leader, 4096):
                output += chunk
        except OSError:  # the other end is closed
            pass
    assert process.returncode == 0
    text = output.decode()
    assert "\x1b[" in text  # our own colours
    for evil in ("\x1b[2J", "\x1b]", "\x1bP", "\x1bc", "\x9b", "\x9d", "\u202e", "\u2028", "\x07", "\x08"):
        assert evil not in text


def test_a_log_is_shown_without_control_sequences(runs: Path) -> None:
    for number in range(len(EVIL) + 1):
        for words in (["logs", "sent", f"run-{number:08d}"], ["logs", "sent", f"run-{number:08d}", "-f"]):
            output = call(*words)
            assert clean(output), words
            assert output.startswith("first\n")
            assert output.endswith("last\n")
    bars = "".join(f"\rtraining {i}/100" for i in range(101))
    log = runs / "sent/run-00000000/log.txt"
    log.write_text(f"begin\n{bars}\nend\r\n")
    assert call("logs", "sent", "run-00000000") == "begin\ntraining 100/100\nend\n"  # the last state of the bar
    log.unlink()
    os.mkfifo(log)
    assert "is a pipe, not a file" in call("logs", "sent", "run-00000000")


def test_tables_hold_one_line_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlcluster.collect.figures.FIGURES", {})
    sweep = make_sweep(tmp_path / "sent")
    evil = [text for text in EVIL if text != "\ud800"]
    for number, text in enumerate(evil):
        made = history(method(), number, label=f"m{text}", varied={"optimizer.lr": text}, epochs=2, points=3)
        made["info"] |= {"device": text, "cluster": text}
        add_run(sweep, f"run-{number:08d}", made)
    add_run(sweep, "failed-00000000", None, "failed", "\n".join(evil))
    said: list[str] = []
    make_report(sweep, said.append)
    assert clean("".join(said), "\n")
    for path in (sweep.report / "tables").iterdir():
        text = path.read_text("utf-8")
        assert clean(text), path
        if path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            assert len(rows) == len(text.splitlines())
    text = (sweep.report / "index.html").read_text("utf-8")
    assert "\x1b" not in text.split("Not in this report")[1].split("</div>")[0]


@pytest.fixture
def lying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A connection to a cluster that answers with control sequences, on both its outputs."""
    (tmp_path / "said").write_bytes("\n".join(EVIL[:-1]).encode())
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        f"#!/bin/sh\ncase \"$*\" in *'-O check'*) exit 0;; esac\n"
        f"cat {tmp_path}/said >&2; echo {MARK}; cat {tmp_path}/said; exit 3\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    return Connection("arnold")


def test_the_output_of_a_cluster_is_shown_without_control_sequences(
    lying: Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    assert lying.stream("true") == 3
    streamed = capfd.readouterr()
    for output in (streamed.out, streamed.err):
        assert "gpj.exe" in output
        assert clean(output)
    with pytest.raises(ClusterError) as error:
        lying.run("true")
    assert "gpj.exe" in str(error.value)
    assert clean(str(error.value))
    words = ("host", "device", "error", "scheduler")
    runs = [dict.fromkeys(words, evil) | {"notes": [evil]} for evil in EVIL]
    rest = dict.fromkeys(("epoch", "epochs", "step", "steps", "elapsed", "attempt"), 0) | {
        "sweep": "s", "run": "r", "state": "failed", "verified": True, "cancelling": False, "seconds_left": None,
        "started": None, "heartbeat": None, "latest": {}, "best": None, "cluster": "", "job_id": "",
    }  # fmt: skip
    for run in agent_reply.parse_runs([rest | entry for entry in runs], "arnold"):
        texts = [run.host, run.device, run.error, run.scheduler, *run.notes]
        assert all(clean(text, "\n", "\t") for text in texts)


@pytest.mark.parametrize("name", ["mine (copy)", "$(touch owned)", "a; touch owned", "`touch owned`", "it's"])
def test_a_command_that_is_offered_can_be_typed_as_it_stands(name: str, tmp_path: Path, monkeypatch) -> None:
    """Also if somebody has sent a folder with an odd name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MTLCLUSTER_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    sweep = make_sweep(tmp_path / "runs" / name)
    for run, state in [("one-0123456789", "done"), ("seed=(1)-0123456780", "failed")]:
        add_run(sweep, run, history(method(), 0))
        write_status(sweep.run(run).status, Status(state, error="why"))
    lines = CliRunner().invoke(app, ["status"]).output.splitlines()
    commands = [line.rpartition(": ")[2] for line in lines if ": mtlcluster " in line]
    assert len(commands) == 3
    record = "mtlcluster() { printf '%s\\n' \"$@\"; }; "
    typed = subprocess.run(["bash", "-c", record + "; ".join(commands)], capture_output=True, text=True, check=True)
    assert typed.stdout.splitlines() == ["logs", name, "seed=(1)-0123456780", "retry", name, "collect", name]
    assert not Path("owned").exists()
