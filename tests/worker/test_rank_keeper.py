"""One run in several processes, with a child that keeps the protocol and trains nothing."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from mtlcluster.errors import UserError
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.submit import submit

pytestmark = pytest.mark.usefixtures("fake_child")


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")


def in_two_ranks(make_grid, word, **resources):
    return make_grid(grid={"data.path": [word]}, resources={"gpus": 2, "cpus": 1, **resources})


def ranks(sweep):
    """What each rank of the last attempt has seen."""
    last = sweep.log().rpartition("--- attempt")[2]
    lines = re.finditer(r"(?m)^(?:\[rank (\d)\] )?rank ({.*})$", last)
    return dict(sorted((int(line[1] or 0), json.loads(line[2])) for line in lines))


def started(sweep):
    sweep.wait("", "running")
    while len(found := ranks(sweep)) < 2 or not sweep.status().epochs:
        time.sleep(0.05)
    return found


def assert_all_gone(seen, seconds=20.0):
    """A zombie of a worker that was killed is nobody's to wait for here."""
    deadline = time.monotonic() + seconds
    for pid in (rank["pid"] for rank in seen.values()):
        while (stat := Path(f"/proc/{pid}/stat")).exists() and ") Z " not in stat.read_text():
            assert time.monotonic() < deadline, f"{pid} is still there"
            time.sleep(0.05)


@pytest.mark.parametrize("gpus", [2, {"type": "a100", "count": 2}])
def test_every_rank_is_told_its_place_and_has_no_other_voice(make_grid, submit_locally, monkeypatch, gpus):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")  # as under torchrun
    monkeypatch.setenv("RANK", "5")
    sweep = submit_locally(in_two_ranks(make_grid, "fine", cpus=4, gpus=gpus))
    sweep.wait("", "done")
    first, second = ranks(sweep).values()
    assert [(r["RANK"], r["LOCAL_RANK"]) for r in (first, second)] == [("0", "0"), ("1", "1")]
    for key, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "threads": "2"}.items():
        assert first[key] == second[key] == value
    assert first["MASTER_PORT"] == second["MASTER_PORT"]
    assert (second["stdin"], second["args"]) == ("/dev/null", "-1")
    assert first["stdin"].startswith("pipe:")
    seen = [json.loads(found) for found in re.findall(r"seen ({.*})", sweep.log())]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["6,7", "6,7"]
    assert [one["ignored"] for one in seen] == [["USR2", "TERM", "INT"]] * 2
    assert_all_gone(ranks(sweep))


def test_a_run_in_one_process_knows_of_no_ranks(make_grid, submit_locally, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "5")
    sweep = submit_locally(make_grid(grid={"data.path": ["fine"]}))
    sweep.wait("", "done")
    [only] = ranks(sweep).values()
    assert {only[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")} == {None}


@pytest.mark.parametrize("word", ["rank-1-fails", "rank-1-fails-both-do"])
def test_the_first_rank_that_fails_has_the_word(make_grid, submit_locally, word):
    """Whether rank 0 then waits for it for ever or fails as well."""
    sweep = submit_locally(in_two_ranks(make_grid, word))
    failed = sweep.wait("", "failed", seconds=30)
    assert failed.error == "rank 1: ended with exit status 1: ValueError: rank 1 is unwell"
    assert_all_gone(ranks(sweep))


def test_the_first_rank_killed_has_the_word_before_one_that_misses_it(make_grid, submit_locally):
    sweep = submit_locally(in_two_ranks(make_grid, "killed-and-missed"))
    assert sweep.wait("", "failed").error.startswith("killed by signal 9 (SIGKILL): out of memory?")
    assert_all_gone(ranks(sweep))


def test_a_rank_that_is_killed_is_told_from_one_that_fails(make_grid, submit_locally):
    sweep = submit_locally(in_two_ranks(make_grid, "hung"))
    os.kill(started(sweep)[1]["pid"], signal.SIGKILL)
    assert sweep.wait("", "failed", seconds=30).error.startswith("rank 1: killed by signal 9 (SIGKILL): out of memory?")
    assert_all_gone(ranks(sweep))


def test_stopped_the_run_is_queued_and_goes_on_in_ranks_again(make_grid, submit_locally):
    sweep = submit_locally(in_two_ranks(make_grid, "endless"))
    for attempt in (1, 2):
        seen = started(sweep)
        os.kill(sweep.worker, signal.SIGUSR2)
        os.waitpid(sweep.worker, 0)
        assert (sweep.status().state, sweep.status().attempt) == ("queued", attempt)
        assert sweep.status().stops_without_progress == 0
        assert_all_gone(seen, seconds=0)
        if attempt == 1:
            sweep.begin_again()
            while sweep.status().attempt == 1:
                time.sleep(0.05)


def test_a_rank_that_does_not_end_with_the_first_is_killed(make_grid, submit_locally):
    sweep = submit_locally(in_two_ranks(make_grid, "hung"))
    seen = started(sweep)
    os.kill(sweep.worker, signal.SIGUSR2)
    os.waitpid(sweep.worker, 0)
    assert sweep.status().state == "queued"
    assert_all_gone(seen, seconds=0)


@pytest.mark.parametrize("word", ["endless", "hung"])
def test_a_killed_worker_leaves_nobody_behind(make_grid, submit_locally, word):
    sweep = submit_locally(in_two_ranks(make_grid, word))
    seen = started(sweep)
    os.kill(sweep.worker, signal.SIGKILL)
    assert_all_gone(seen)
    assert (sweep.sweep.run(sweep.run("")).folder / "step").read_text() == "1"  # rank 0 had the time to save


def test_a_killed_keeper_ends_the_run(make_grid, submit_locally):
    sweep = submit_locally(in_two_ranks(make_grid, "endless"))
    seen = started(sweep)
    os.kill(int(Path(f"/proc/{seen[1]['pid']}/stat").read_text().rpartition(") ")[2].split()[1]), signal.SIGKILL)
    assert (
        "rank 1: ended with exit status 1: the process that looked after it is gone"
        in sweep.wait("", "failed", seconds=30).error
    )
    assert_all_gone(seen)


def test_several_nodes_are_not_for_this_machine_nor_shared(project, make_grid):
    with pytest.raises(UserError, match=r"resources.nodes is 2, this machine is one"):
        submit(make_grid(grid={"seed": [0]}, resources={"nodes": 2}), project / "runs", "local", print)
    assert not (project / "runs").exists()
    with pytest.raises(UserError, match=r"at_once \(2\) and resources.nodes \(2\): a run on several nodes has them to"):
        make_grid(include=[{"seed": 0}, {"seed": 1, "resources.nodes": 2}], runs_per_job=2, at_once=2)
    assert "processes" not in preview(make_grid(grid={"seed": [0]}), project / "runs", "local")
    shown = preview(in_two_ranks(make_grid, "fine"), project / "runs", "local")
    assert "a run is trained by 2 processes (ranks)" in shown
