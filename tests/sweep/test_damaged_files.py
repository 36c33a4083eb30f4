"""Any file of a sweep folder may be damaged in any way: a sentence names it, other runs go on, nothing hangs."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rig.handmade import at_epoch, wait_for

from mtlcluster.cli import app
from mtlcluster.config import submitted_here
from mtlcluster.config.grid import read_grid
from mtlcluster.errors import tell_once
from mtlcluster.launch import status_table
from mtlcluster.launch.executors.local import Local
from mtlcluster.launch.run_status import observe
from mtlcluster.launch.submit import submit
from mtlcluster.remote import status_cache
from mtlcluster.sweep import submissions
from mtlcluster.sweep.files import remove
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.locks import is_locked
from mtlcluster.sweep.status import ENDED, Status, read_status, write_status

DEAD = f"local:{os.uname().nodename}:1:5"
SECONDS = 20  # each command takes a fraction of a second
PROJECT = Path(__file__).parents[1] / "rig" / "project"


def bytes_of(content: bytes):
    return lambda path: path.write_bytes(content)


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(10**11)  # a sparse file, larger than any disk here


def linked_to(target: str):
    return lambda path: path.symlink_to(target)


DAMAGES = {
    "empty": bytes_of(b""),
    "nulls": bytes_of(b"\0" * 5000),
    "no text": bytes_of(b"\xff\xfe{\x80\xe9\n" * 20),
    "no text in a line": bytes_of(b'{"event": "begin", "submission": "0009", "note": "\xe9"}\n'),
    "a list": bytes_of(b"[1, 2]\n"),
    "a number": bytes_of(b"7\n"),
    "other types": bytes_of(
        b'{"format": 1, "event": "begin", "submission": 3, "time": [], "jobs": 7, "state": ["done"], "epoch": true,'
        b' "runs": {"a": 1}, "resources": [], "source": 5, "job": ["x"], "runs_per_job": "many", "name": {}}\n'
    ),
    "impossible numbers": bytes_of(b'{"state": "running", "epoch": 1e999, "steps": %s}\n' % (b"9" * 400)),
    "a newer version": bytes_of(b'{"format": 99, "event": "split", "submission": "0001", "state": "pruned"}\n'),
    "half characters": bytes_of(b'{"state": "failed", "error": "\\ud800", "host": "\\udfff", "time": 1, "runs": []}\n'),
    "deep lists": bytes_of(b"[" * 100_000),
    "deep mappings": bytes_of(b'{"a":' * 100_000),
    "deep blocks": bytes_of(b"- " * 100_000),
    "huge": huge,
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to nowhere": linked_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link without end": linked_to("/dev/zero"),
}
VERBS = [
    ("status", "sweep"), ("status", "--json"), ("logs", "sweep", "seed=1"), ("cancel", "sweep", "--yes"),
    ("retry", "sweep"), ("submit", "grid.yaml", "--cluster", "local"), ("collect", "sweep"),
]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a sweep of three runs: one is done, one failed, one never started because its worker died."""
    project = tmp_path_factory.mktemp("template") / "project"
    shutil.copytree(PROJECT, project)
    keys = {"job": "tiny", "grid": {"seed": [0, 1, 2]}, "resources": {"memory": "500M", "time": "5m"}}
    (project / "grid.yaml").write_text(json.dumps({"name": "sweep", **keys}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Local, "submit", not_started)
        sweep = submit(read_grid(project / "grid.yaml"), project / "runs", "local", print).sweep
    done, failed, _ = sweep.runs()
    write_status(done.status, at_epoch(20, "done", submission="0001", job_id=DEAD))
    write_status(failed.status, at_epoch(3, "failed", submission="0001", job_id=DEAD, error="boom"))
    failed.log.write_text("it printed this\n")
    status_cache.expect_runs(sweep, "arnold")
    return project


def not_started(*_: object) -> list[str]:
    return [DEAD]


@pytest.fixture
def damaged(template, tmp_path, monkeypatch):
    """`damaged(file, how)`: a fresh copy of the sweep with that file damaged. Its commands start no workers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MTLCLUSTER_RUNS", raising=False)
    monkeypatch.setattr(Local, "submit", not_started)
    monkeypatch.setattr(os, "fsync", lambda file: None)

    def damage(file: str, how: str) -> Sweep:
        shutil.rmtree(tmp_path / "project", ignore_errors=True)
        shutil.copytree(template, tmp_path / "project", ignore=shutil.ignore_patterns("code"))
        (tmp_path / "project" / "runs" / "sweep" / "code").symlink_to(template / "runs" / "sweep" / "code")
        monkeypatch.chdir(tmp_path / "project")
        tell_once.cache_clear()
        sweep = Sweep(tmp_path / "project" / "runs" / "sweep")
        submitted_here.remember(sweep.folder)
        path = sweep.folder / file.replace("RUN", sweep.runs()[1].name)
        path.unlink(missing_ok=True)
        if not file.startswith("clusters"):
            shutil.rmtree(sweep.clusters)
        DAMAGES[how](path)
        return sweep

    return damage


@contextlib.contextmanager
def no_hang(words: object) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"{words} hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(*arguments: str):
    with no_hang(arguments):
        result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
    assert result.exit_code in (0, 1, 2)
    return result


@pytest.mark.parametrize(
    "file",
    ["RUN/status.json", "RUN/config.yaml", "RUN/log.txt", "RUN/cancel", "submissions.jsonl", "sweep.yaml",
     "clusters/arnold.json"],
)  # fmt: skip
def test_a_damaged_file_breaks_no_command_and_hides_no_other_run(damaged, file):
    for how in DAMAGES:
        for verb in VERBS:
            sweep = damaged(file, how)
            result = call(*verb)
            if verb[0] != "status" or (how, file) == ("a link to nowhere", "sweep.yaml"):  # as if it were missing
                continue
            found = call("status", "--json")
            assert found.exit_code == 0, (how, found.output)
            json.loads(found.stdout, parse_constant=pytest.fail)
            states = [run.state for run in observe([sweep])]
            assert states[0] == "done", (how, states)
            if file == "RUN/status.json" and how != "half characters":
                assert "status.json" in result.output, (how, result.output)
                assert states[2] == "lost"


def test_a_damaged_configuration_leaves_out_its_run_alone(damaged):
    for how in sorted(DAMAGES.keys() - {"a link to nowhere"}):
        sweep = damaged("RUN/config.yaml", how)
        _, hurt, lost = [run.name for run in sweep.runs()]
        result = call("retry", "sweep")
        assert result.exit_code == 2, how
        assert f"submitted 1 run of sweep in 1 job on local\nleft out: {hurt}: " in result.output, how
        assert f"{hurt}/config.yaml" in result.output
        assert submissions.read(sweep.submissions)[-1].jobs == [[lost]]
        result = call("retry", "sweep", hurt)
        assert (result.exit_code, len(submissions.read(sweep.submissions))) == (2, 2)
        result = call("evaluate", f"sweep/{hurt}")
        assert result.exit_code == 2
        assert "config.yaml" in result.stderr
        with open("grid.yaml", "w") as grid:
            grid.write(json.dumps({"name": "sweep", "job": "tiny", "grid": {"seed": [0, 1, 2, 3]},
                                   "resources": {"memory": "600M", "time": "5m"}}))  # fmt: skip
        result = call("submit", "grid.yaml", "--cluster", "local")
        assert "submitted 1 run of sweep" in result.output, how
        assert f"left out: {hurt}: " in result.output


def test_nothing_is_trained_twice_if_the_list_of_submissions_cant_be_read(damaged):
    for how in ("a folder", "a pipe", "huge", "a link to itself"):
        sweep = damaged("submissions.jsonl", how)
        before = {path.name for path in sweep.folder.iterdir()}
        for verb in ("retry", "sweep"), ("submit", "grid.yaml", "--cluster", "local"):
            result = call(*verb)
            assert result.exit_code == 2
            assert "submissions.jsonl: " in result.stderr
        assert {path.name for path in sweep.folder.iterdir()} == before
    for how in ("empty", "no text", "nulls"):  # the runs' own files still count
        sweep = damaged("submissions.jsonl", how)
        call("submit", "grid.yaml", "--cluster", "local")
        [again] = submissions.read(sweep.submissions)
        assert (again.id, again.jobs) == ("0002" if (sweep.folder / "submissions").is_dir() else "0001",
                                          [[sweep.runs()[2].name]])  # fmt: skip


def test_an_invalid_byte_costs_only_its_line(damaged, template):
    content = (template / "runs" / "sweep" / "submissions.jsonl").read_bytes()
    sweep = damaged("submissions.jsonl", "empty")
    noise = b'{"event": "begin", "submission": "0001\xe9", "time": 1, "cluster": "local", "code": "c", "jobs": []}\n'
    foreign = b'{"event": "begin", "submission": "0002", "time": 1, "cluster": "x", "code": "..", "jobs": [["../x"]]}\n'
    sweep.submissions.write_bytes(noise + content + foreign + b"\x80\n" + b'{"event": "end", "submiss')
    result = call("status", "sweep")
    assert "submissions.jsonl: line 1 and 2 more are not what a submission writes" in result.stderr
    assert "1 done, 1 failed, 1 lost of 3" in result.stdout
    assert "submitted 2 runs of sweep" in call("retry", "sweep").stdout
    assert [s.id for s in submissions.read(sweep.submissions)] == [
        "0001",
        "0003",
    ]  # 0002 is taken, although its line can't be read


@pytest.mark.usefixtures("fake_child")
def test_a_worker_goes_on_beside_runs_whose_files_are_damaged(project, make_grid, submit_locally):
    of_config = ("empty", "a pipe", "deep lists", "huge", "other types", "no text", "a folder")
    hurt = [("config.yaml", how) for how in of_config]
    hurt += [("log.txt", "a pipe"), ("log.txt", "a link without end"), (".lock", "a folder")]
    mended = [("status.json", "a pipe"), ("status.json", "deep lists"), ("status.json", "a link to nowhere"),
              ("status.json", "other types")]  # fmt: skip
    sweep = submit_locally(make_grid(grid={"seed": {"range": len(hurt + mended) + 1}}, set={"data.path": "fine"}))
    os.kill(sweep.worker, signal.SIGKILL)
    os.waitpid(sweep.worker, 0)
    runs = sweep.sweep.runs()
    wait_for(lambda: not any(is_locked(run.folder / ".lock") for run in runs))
    for run in runs:
        run.status.unlink(missing_ok=True)
    for run, (file, how) in zip(runs, hurt + mended, strict=False):
        remove(run.folder / file)
        DAMAGES[how](run.folder / file)
    sweep.begin_again()  # as Slurm does with a requeued job
    wait_for(lambda: {status_of(run).state for run in runs} <= set(ENDED), 60)
    found = [status_of(run) for run in runs]
    assert [run.state for run in found] == ["failed"] * len(hurt) + ["done"] * (len(mended) + 1)
    for run, (file, how) in zip(found, hurt, strict=False):
        assert run.error.startswith("could not be started: "), (file, how)
        assert file in run.error or how in ("empty", "other types"), (file, how, run.error)
    for run in found[len(hurt) : -1]:
        assert any("started again" in note for note in run.notes), run


def status_of(run: Run) -> Status:
    try:
        return read_status(run.status) or Status()
    except ValueError:
        return Status()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(["..", "/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.data())
def test_wrong_values_are_reported_or_do_no_harm(tmp_path_factory, data):
    sweep = Sweep(tmp_path_factory.mktemp("runs") / "sweep")
    run = sweep.run("seed=0-0123456789")
    run.folder.mkdir(parents=True)
    lines = [
        {"event": "begin", "submission": "0001", "time": 1.0, "cluster": "local", "code": "c", "jobs": [[run.name]]},
        {"event": "end", "submission": "0001", "time": 1.0, "jobs": [DEAD]},
    ]
    status = {"format": 1, **vars(Status(state="running", submission="0001", job_id=DEAD, heartbeat=1.0, host="n1"))}
    for entry in data.draw(st.lists(st.sampled_from([*lines, status]), min_size=1)):
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(VALUES)
    sweep.submissions.write_text("\n".join(map(json.dumps, lines)))
    run.status.write_text(json.dumps(status))
    found = observe([sweep])
    json.loads(status_table.as_json(found), parse_constant=pytest.fail).items()
    status_table.as_json(found).encode()
    "\n".join(status_table.plain(line) for line in status_table.overview(found, 80, True)).encode()
