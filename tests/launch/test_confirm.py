"""Choosing settings and confirming them: what `submit` submits, and what the worker makes of it, on this machine."""

import json
import subprocess
import sys

import pytest
from rig.handmade import wait_for
from rig.search import as_search

from mtlcluster import _entry
from mtlcluster.config.run import read_run_config, run_hash
from mtlcluster.errors import UserError
from mtlcluster.launch import cancel, choose, confirm
from mtlcluster.launch import submit as submitting
from mtlcluster.launch.retry import resubmit
from mtlcluster.launch.run_status import observe
from mtlcluster.sweep import submissions
from mtlcluster.sweep.choices import Candidate, best_candidate, read_choices
from mtlcluster.sweep.names import hash_of

pytestmark = pytest.mark.usefixtures("fake_child")


@pytest.fixture
def submit_search(project, make_grid, submit_locally):
    """Submits a search to this machine: a trial for each learning rate of each method."""

    def submit_it(lr, confirming, method=("equal",), seed=(0,), words=("scored",), **keys):
        points = {"method": [*method], "optimizer.lr": [*lr], "data.path": [*words], "seed": [*seed]}
        grid = make_grid(grid=points, **keys)
        as_search(grid, project / "runs", [*confirming])
        return submit_locally(grid)

    return submit_it


def states(sweep):
    return {run.run: run.state for run in observe([sweep])}


def wait_until_ended(sweep, seconds=40):
    wait_for(lambda: all(run.ended for run in observe([sweep])), seconds)
    return {run.run: run for run in observe([sweep])}


def test_the_best_trial_of_each_method_is_trained_with_the_confirming_seeds(submit_search):
    local = submit_search(lr=[0.3, 0.1, 0.2], confirming=[1, 2], method=["equal", "pcgrad"])
    sweep = local.sweep
    before = {run.run: run for run in observe([sweep])}
    assert len(before) == 10
    waiting = before["pcgrad-choice=1-seed=2"]
    assert (waiting.state, waiting.roles, waiting.method, waiting.trial) == ("queued", ["confirm"], "pcgrad", None)
    assert waiting.notes == ["waits for the trials of pcgrad"]
    after = wait_until_ended(sweep)
    assert {run.state for run in after.values()} == {"done"}
    assert len(after) == 10
    for method in ("equal", "pcgrad"):
        [choice] = read_choices(sweep.folder, method)
        assert (choice.number, choice.trial, choice.values) == (1, 1, {"optimizer.lr": 0.1, "data.path": "scored"})
        assert [c.number for c in choice.candidates] == [0.3, 0.1, 0.2]
        assert [*choice.runs] == [1, 2]
        for seed, name in choice.runs.items():
            config = read_run_config(sweep.run(name).config)
            assert (config.seed, config.optimizer.lr, hash_of(name)) == (seed, 0.1, run_hash(config))
            assert config.origin.varied["seed"] == seed
            run = after[name]
            assert (run.method, run.trial, run.roles) == (method, 1, ["confirm"])
            assert run.values == choice.values
    assert len(submissions.read(sweep.submissions)) == 1
    assert not any(path.is_dir() for path in (sweep.folder / "choices").iterdir())


def test_a_trial_that_has_a_confirming_seed_is_taken_as_it_is(submit_search):
    sweep = submit_search(lr=[0.2, 0.1], confirming=[]).sweep
    wait_until_ended(sweep)
    submit_search(lr=[0.2, 0.1], confirming=[0, 1])
    after = wait_until_ended(sweep)
    [choice] = read_choices(sweep.folder, "equal")
    assert len(after) == 3
    both = after[choice.runs[0]]
    assert (both.roles, both.attempt, both.state) == (["trial", "confirm"], 1, "done")
    assert after[choice.runs[1]].roles == ["confirm"]


def test_the_mean_over_the_tuning_seeds_decides_and_a_failed_trial_counts_as_the_worst(submit_search):
    sweep = submit_search(lr=[0.1], words=["fails", "scored"], seed=[0, 1], confirming=[5]).sweep
    wait_until_ended(sweep)
    [choice] = read_choices(sweep.folder, "equal")
    assert choice.trial == 1
    assert [(c.number, c.by_seed, c.state) for c in choice.candidates] == [
        (None, {}, "failed"),
        (0.1, {0: 0.1, 1: 0.1}, "done"),
    ]


def test_if_all_trials_failed_status_says_why_and_a_retry_tries_again(submit_search, capsys):
    local = submit_search(lr=[0.1, 0.2], words=["fails"], confirming=[1])
    after = wait_until_ended(local.sweep)
    waiting = after["equal-choice=1-seed=1"]
    assert waiting.state == "failed"
    assert waiting.error == "nothing can be chosen: no trial of equal is done (2 failed); retry them"
    assert read_choices(local.sweep.folder, "equal") == []
    again = resubmit(local.sweep, list(after), False, print)
    assert {*again.submitted} == {*after}
    retried = wait_until_ended(local.sweep)
    assert retried["equal-choice=1-seed=1"].error == waiting.error
    assert {run.attempt for run in retried.values() if run.roles == ["trial"]} == {2}


def test_a_cancelled_confirming_run_never_trains(submit_search):
    local = submit_search(lr=[0.1], confirming=[1, 2])
    [run] = [run for run in observe([local.sweep]) if run.run == "equal-choice=1-seed=2"]
    cancel.cancel(local.sweep, [run], print)
    after = wait_until_ended(local.sweep)
    [choice] = read_choices(local.sweep.folder, "equal")
    assert [after[choice.runs[seed]].state for seed in (1, 2)] == ["done", "cancelled"]
    assert after[choice.runs[2]].attempt == 0
    resubmit(local.sweep, [choice.runs[2]], False, print)
    assert wait_until_ended(local.sweep)[choice.runs[2]].state == "done"


def test_a_cancelled_sweep_chooses_nothing(submit_search):
    sweep = submit_search(lr=[0.1], words=["endless"], confirming=[1]).sweep
    wait_for(lambda: "running" in states(sweep).values())
    cancel.cancel(sweep, observe([sweep]), print)
    assert {run.state for run in wait_until_ended(sweep).values()} == {"cancelled"}
    assert read_choices(sweep.folder, "equal") == []


def test_more_trials_are_chosen_from_anew_and_the_same_setting_trains_nothing_again(submit_search):
    sweep = submit_search(lr=[0.2], confirming=[1]).sweep
    wait_until_ended(sweep)
    submit_search(lr=[0.2, 0.3], confirming=[1])
    after = wait_until_ended(sweep)
    first, second = read_choices(sweep.folder, "equal")
    assert (first.trial, second.trial, second.number) == (0, 0, 2)
    assert (len(after), after[second.runs[1]].attempt, after[second.runs[1]].roles) == (3, 1, ["confirm"])
    submit_search(lr=[0.2, 0.3, 0.1], confirming=[1])
    after = wait_until_ended(sweep)
    third = read_choices(sweep.folder, "equal")[-1]
    assert (third.trial, third.number, len(after)) == (2, 3, 5)
    assert after[third.runs[1]].roles == ["confirm"]
    assert after[first.runs[1]].roles == ["earlier choice"]


def test_more_confirming_seeds_are_added_to_the_choice_that_holds(submit_search):
    sweep = submit_search(lr=[0.2, 0.1], confirming=[1]).sweep
    wait_until_ended(sweep)
    [before] = read_choices(sweep.folder, "equal")
    submitted = submit_search(lr=[0.2, 0.1], confirming=[1, 2, 3]).submitted
    [choice] = read_choices(sweep.folder, "equal")
    assert ([*choice.runs], choice.time) == ([1, 2, 3], before.time)
    assert submitted.submitted == [choice.runs[2], choice.runs[3]]
    assert {run.state for run in wait_until_ended(sweep).values()} == {"done"}


def test_a_retried_trial_changes_the_choice_only_at_the_next_submit_which_says_so(submit_search):
    sweep = submit_search(lr=[0.2, 0.1], confirming=[1]).sweep
    after = wait_until_ended(sweep)
    [first] = read_choices(sweep.folder, "equal")
    assert first.trial == 1
    trial = next(run for run in after if "lr=0.2-" in run)
    path = sweep.run(trial).status  # as a retry might leave it
    entry = json.loads(path.read_text())
    entry["best"]["number"] = 0.05
    path.write_text(json.dumps(entry))
    assert len(read_choices(sweep.folder, "equal")) == 1
    submitted = submit_search(lr=[0.2, 0.1], confirming=[1]).submitted
    assert submitted.notes == [
        "equal: trial 0 (0.05) is chosen in place of trial 1 (0.1), because a trial was retried; "
        "the runs of the earlier choice stay"
    ]
    _, second = read_choices(sweep.folder, "equal")
    assert (second.trial, second.number, submitted.submitted) == (0, 2, [second.runs[1]])
    after = wait_until_ended(sweep)
    assert [after[choice.runs[1]].roles for choice in (first, second)] == [["earlier choice"], ["confirm"]]
    assert submit_search(lr=[0.2, 0.1], confirming=[1]).submitted.submitted == []


@pytest.mark.parametrize("point", ["write_choices", "make_runs", "hand_over"])
def test_a_submit_that_was_killed_at_a_new_choice_is_completed_by_the_next(submit_search, monkeypatch, point):
    sweep = submit_search(lr=[0.2, 0.1], confirming=[1]).sweep
    trial = next(run for run in wait_until_ended(sweep) if "lr=0.2-" in run)
    entry = json.loads(sweep.run(trial).status.read_text())
    entry["best"]["number"] = 0.05
    sweep.run(trial).status.write_text(json.dumps(entry))
    owner = {"write_choices": confirm, "make_runs": choose, "hand_over": submitting}[point]
    with monkeypatch.context() as patch:
        patch.setattr(owner, point, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            submit_search(lr=[0.2, 0.1], confirming=[1])
    submitted = submit_search(lr=[0.2, 0.1], confirming=[1]).submitted
    _, second = read_choices(sweep.folder, "equal")
    assert (second.trial, submitted.submitted) == (0, [second.runs[1]])
    assert wait_until_ended(sweep)[second.runs[1]].state == "done"


@pytest.mark.parametrize(
    ("direction", "numbers", "backwards", "expected"),
    [
        ("min", [0.3, 0.1, 0.2], [1, 9, 1], 1),
        ("max", [0.3, 0.1, 0.2], [9, 1, 1], 0),
        ("min", [None, 0.1, None], [0, 9, 0], 1),
        ("max", [0.2, 0.2, 0.2], [5, 4, 4], 1),
        ("min", [0.2, 0.2], [4, 4], 0),
        ("min", [None, None], [4, 4], None),
    ],
)
def test_ties_go_to_fewer_backwards_then_to_the_earlier_trial(direction, numbers, backwards, expected):
    tried = [Candidate(i, number, {}, backwards[i]) for i, number in enumerate(numbers)]
    chosen = best_candidate(tried, direction)
    assert (chosen and chosen.trial) == expected


def confirm_with(sweep, seeds):
    search = json.loads(sweep.trials.read_text()) | {"confirming_seeds": seeds}
    sweep.trials.write_text(json.dumps(search))


def start_choose(sweep, number=1):
    command = [sys.executable, *_entry.python_arguments("choose"), str(sweep.folder), "equal", str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_jobs_that_choose_at_once_make_one_choice(submit_search):
    sweep = submit_search(lr=[0.2, 0.1], confirming=[]).sweep
    wait_until_ended(sweep)
    confirm_with(sweep, [1, 2])
    both = [start_choose(sweep) for _ in range(2)]
    assert [json.loads(process.communicate()[0]) for process in both] == [{"chosen": True}] * 2
    [choice] = read_choices(sweep.folder, "equal")
    assert {*choice.runs.values()} <= {run.name for run in sweep.runs()}
    assert len(sweep.runs()) == 4


def test_choose_that_was_killed_after_its_choice_is_completed_by_the_next(submit_search):
    sweep = submit_search(lr=[0.2, 0.1], confirming=[]).sweep
    wait_until_ended(sweep)
    confirm_with(sweep, [1, 2])
    killed = (
        "import os, signal, sys; from pathlib import Path; from mtlcluster.launch import choose; "
        "from mtlcluster.sweep.folder import Sweep; "
        "choose.make_runs = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "choose.choose(Sweep(Path(sys.argv[1])), 'equal', 1)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(sweep.folder)]).returncode == -9
    [choice] = read_choices(sweep.folder, "equal")
    assert len(sweep.runs()) == 2
    assert json.loads(start_choose(sweep).communicate()[0]) == {"chosen": True}
    assert read_choices(sweep.folder, "equal") == [choice]
    assert len(sweep.runs()) == 4


def test_a_cancel_that_no_worker_has_seen_reaches_the_run(submit_search):
    sweep = submit_search(lr=[0.1], confirming=[]).sweep
    wait_until_ended(sweep)
    confirm_with(sweep, [1, 2])
    waiting = sweep.run("equal-choice=1-seed=2")
    waiting.folder.mkdir(parents=True)
    waiting.cancel.touch()
    assert json.loads(start_choose(sweep).communicate()[0]) == {"chosen": True}
    [choice] = read_choices(sweep.folder, "equal")
    assert [sweep.run(choice.runs[seed]).cancel.exists() for seed in (1, 2)] == [False, True]
    assert not waiting.folder.exists()


def test_choose_needs_no_torch(submit_search):
    words = "import sys, mtlcluster.launch.choose; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, text=True).stdout == "False\n"


def test_a_confirming_run_has_the_code_of_its_trial(project, submit_search):
    sweep = submit_search(lr=[0.1], confirming=[]).sweep
    wait_until_ended(sweep)
    [old] = sweep.code.iterdir()
    with open(project / "jobs" / "tiny.py", "a") as job:
        job.write("# changed\n")
    submit_search(lr=[0.1, 0.3], confirming=[1])
    wait_until_ended(sweep)
    [choice] = read_choices(sweep.folder, "equal")
    run = sweep.run(choice.runs[1])
    assert choice.trial == 0
    assert submissions.read(sweep.submissions)[-1].code != old.name
    assert read_run_config(run.config).origin.code == old.name
    assert f'"cwd": "{old.name}"' in run.log.read_text()


def test_a_choice_of_a_trial_that_is_not_there_is_one_sentence(submit_search):
    sweep = submit_search(lr=[0.1], confirming=[1]).sweep
    wait_until_ended(sweep)
    file = sweep.folder / "choices/equal.json"
    file.write_text(file.read_text().replace('"trial": 0', '"trial": 9'))
    with pytest.raises(UserError, match=r"choices/equal\.json: trial 9 is chosen, and .*trials\.json does not have it"):
        submit_search(lr=[0.1, 0.2], confirming=[1, 2])
    assert len(sweep.runs()) == 2  # nothing was begun


def test_cancel_writes_nothing_through_a_link_in_place_of_the_choices(submit_search, tmp_path):
    sweep = submit_search(lr=[0.1], words=["endless"], confirming=[1]).sweep
    (tmp_path / "mine").mkdir()
    (sweep.folder / "choices").symlink_to(tmp_path / "mine")
    waiting = observe([sweep], {"equal-choice=1-seed=1"})
    with pytest.raises(OSError, match="symbolic link, which is not followed"):
        cancel.cancel(sweep, waiting, print)
    assert list((tmp_path / "mine").iterdir()) == []
    (sweep.folder / "choices").unlink()
    cancel.cancel(sweep, observe([sweep]), print)
