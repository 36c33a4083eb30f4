"""Replies and files of a cluster that have another form, or names that lead out of the runs folder, do no harm."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rig.handmade import add_runs, at_epoch, new_sweep

from mtlcluster.cli import app
from mtlcluster.errors import UserError, tell_once
from mtlcluster.launch.run_module import run_module
from mtlcluster.launch.run_status import observe
from mtlcluster.remote import status_cache
from mtlcluster.remote.ssh import Connection
from mtlcluster.sweep.folder import Sweep

NAMES = ["..", "../../escaped", "/tmp/escaped", "a/../../b", ".hidden", "", "-rf", "a\nb", "a\x1b[2J", "\ud800",
         "a" * 300, 5, None, ["a"], {}]  # fmt: skip
JOBS = ["--user=root", "-u", "1 2", "1\n2", "../x", 7]


@pytest.fixture
def far(tmp_path, monkeypatch):
    """`far(reply, *command)`: runs a command while the cluster `arnold` gives this reply. Nothing is copied from it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MTLCLUSTER_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".config" / "mtlcluster").mkdir(parents=True)
    (tmp_path / ".config" / "mtlcluster" / "clusters.yaml").write_text("arnold: {host: arnold}\n")
    (tmp_path / "home" / "runs").mkdir(parents=True)
    pulled: list[Path] = []
    monkeypatch.setattr(Connection, "pull", lambda self, source, target, *_, **__: pulled.append(target) or [])

    def answer(reply: object, *command: str):
        tell_once.cache_clear()
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        monkeypatch.setattr(Connection, "run", lambda *_, **__: content)
        before = files(tmp_path)
        result = CliRunner().invoke(app, [*command, "--runs", "home/runs"])
        assert result.exception is None or isinstance(result.exception, SystemExit), (reply, result.exc_info)
        assert all(Path("home/runs") in target.parents for target in pulled), (reply, pulled)
        assert {file for file in files(tmp_path) - before if "home/runs/" not in file} == set(), reply
        return result

    return answer


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def row(**values: object) -> dict:
    run = {"sweep": "digits", "run": "seed=0-0123456789", "state": "done", "verified": True, "cancelling": False}
    run |= {"epoch": 1, "epochs": 1, "step": 1, "steps": 1, "seconds_left": None, "elapsed": 1.0, "started": 1.0}
    run |= {"heartbeat": 1.0, "attempt": 1, "cluster": "slurm", "job_id": "7_0", "host": "n1", "device": "cpu"}
    return run | {"latest": {}, "best": None, "error": "", "scheduler": "", "notes": [], "age": 0.0} | values


def look(*rows: object, **more: object) -> dict:
    return {"version": "x", "runs": list(rows), "job_files": {}, **more}


def test_names_that_lead_out_of_the_runs_folder_are_refused(far):
    assert "seed=0-0123456789" in far(look(row()), "status").stdout
    odd = [row(**{key: name}) for key in ("sweep", "run") for name in NAMES]
    odd += [row(job_id=job) for job in JOBS]
    for one in odd:
        for command in ("status",), ("collect",):
            result = far(look(row(), one), *command)
            assert "arnold gave an invalid answer" in result.output, one
            assert "\x1b" not in result.output
    assert not Path("home/runs/digits/clusters").exists()


def test_sizes_of_files_and_other_sweeps_that_nobody_asked_for_do_no_harm(far):
    sizes = [[10, 10**18]] * 4
    for odd in ({"..": sizes}, {"../../x": sizes}, {"seed=0-0123456789": sizes[:2]}, {"seed=0-0123456789": "x"}, [], 5):
        for files in ({"digits": odd}, {"../..": odd}, odd):
            far(look(row(), files=files), "collect")
    result = far(look(row(sweep="other")), "collect", "digits")
    assert not Path("home/runs/other").exists()
    assert "no sweep 'digits'" in result.output


@pytest.mark.parametrize(
    "reply",
    [b"", b"hello", b"[" * 100_000, b'{"runs": [', [], 5, None, {}, {"runs": []}, look(5), look([]), look({}),
     {**look(), "runs": {}}, {**look(), "version": 5}, look(row(state="gone")), look(row(epoch="1")),
     look(row(epoch=10**400)), look(row(latest=[])), look(row(notes="x")), look(row(verified=1)),
     look({k: v for k, v in row().items() if k != "host"})],
)  # fmt: skip
def test_an_answer_that_is_none_makes_the_cluster_one_that_cant_be_asked(far, reply):
    sweep = new_sweep(Path("home/runs"), "mine")
    add_runs(sweep, "local:elsewhere:1:1", {"run-1": at_epoch(20, "done")})
    result = far(reply, "status")
    assert result.exit_code == 0
    assert "run-1  done" in result.stdout  # the other runs are shown
    assert "?  arnold can't be reached: arnold " in result.stdout


def test_a_newer_version_over_there_may_say_more(far):
    assert "seed=0" in far({**look(row(hue="red", silent=3.0)), "weather": []}, "status").stdout


def test_names_in_files_are_refused_as_well(tmp_path, capsys):
    sweep = new_sweep(tmp_path)
    add_runs(sweep, "local:elsewhere:1:1", {"run-1": at_epoch(20, "done")})
    sweep.clusters.mkdir()
    for name in NAMES:
        tell_once.cache_clear()
        (sweep.clusters / "arnold.json").write_text(json.dumps({"format": 1, "time": 1.0, "runs": [row(run=name)]}))
        assert status_cache.last_replies(sweep)["arnold"].runs == []
        assert "clusters/arnold.json: " in capsys.readouterr().err
    (sweep.clusters / "arnold.json").write_text(json.dumps({"time": 1.0, "runs": [row(sweep="another")]}))
    assert status_cache.last_replies(sweep)["arnold"].runs == []
    (sweep.clusters / "--option.json").write_text("{}")
    (sweep.clusters / "a b.json").write_text("{}")
    assert status_cache.cached_clusters(sweep) == ["arnold"]
    told = at_epoch(3, "running", submission="0007", job_id="--me")  # scancel would take it for an option
    add_runs(sweep, "--me", {"run-2": told}, submission="0007")
    assert {run.job_id for run in observe([sweep]) if run.run == "run-2"} == {""}


def test_code_is_of_the_sweep(tmp_path):
    run = Sweep(tmp_path / "digits").run("seed=0-0123456789")
    run.folder.mkdir(parents=True)
    for code in ("../../elsewhere", "..", "/tmp", ""):
        run.config.write_text(
            f"job: jobs/tiny.py:build\norigin: {{sweep: digits, code: '{code}', cluster: local, varied: {{}}}}\n"
        )
        with pytest.raises(UserError, match=r"config.yaml:2: origin.code "):
            run_module("replay", run.folder)
