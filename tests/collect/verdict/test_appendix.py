"""The appendix of the verdict."""

import re

import pytest
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.read_histories import read_histories
from mtlcluster.collect.run_list import list_runs
from mtlcluster.collect.settings import group_runs, trained_tasks
from mtlcluster.collect.verdict.appendix import choices_section, tasks_section
from mtlcluster.collect.verdict.contest import make_contest
from mtlcluster.collect.verdict.per_task import per_task
from mtlcluster.sweep.choices import Choice, read_choices, write_choices


@pytest.fixture
def sweep(tmp_path):
    return Contestants.at(tmp_path / "runs")


def contest_of(sweep):
    finished, omitted = read_histories(list_runs(sweep.sweep), lambda: None)
    return make_contest(sweep.sweep, group_runs(finished), trained_tasks(finished), finished, omitted)


def test_each_task_is_compared_by_itself_with_wider_intervals_and_nothing_is_bold(sweep):
    """By hand: .9 against .8 is 12.5 points of left; ink is the same. The worst of its seed stands for a failed run."""
    sweep.singles(seeds=range(4))
    sweep.plain("equal", [0.80, 0.81, 0.79, 0.80])
    for seed, (left, ink) in enumerate([(0.90, 2.00), (0.91, 1.99), (0.90, 2.01), (0.90, 2.00)]):
        state = "failed" if seed == 3 else "done"
        values = {"left/accuracy": left, "ink/mae": ink}
        sweep.run("pcgrad", seed, method(gradient="pcgrad"), values if state == "done" else {}, state=state)
    sweep.plain("cagrad", [0.80, 0.80, 0.80, 0.72])
    found = per_task(contest_of(sweep))
    assert (found.reference, found.seeds) == ("equal", 4)
    place = found.methods.index("pcgrad")
    left = found.tasks["left"].differences[place]
    assert left.mean == pytest.approx((12.5 + 12.5 + 13.75 - 10) / 4)
    assert found.tasks["ink"].differences[place].mean == pytest.approx(0, abs=1e-9)
    assert found.tasks["left"].level == pytest.approx(0.975)
    html = "\n".join(tasks_section(contest_of(sweep)))
    assert "All intervals of all 2 tasks hold at once with 95 %" in html
    assert not re.search("class=best|<strong|<b>", html)


def test_with_one_seed_no_task_is_compared(sweep):
    sweep.plain("equal", [0.8])
    sweep.plain("pcgrad", [0.9])
    assert verdict_of(sweep.sweep).reference == "equal"
    assert tasks_section(contest_of(sweep)) == []


def test_an_earlier_choice_is_shown_with_its_runs_and_does_not_count(sweep):
    sweep.tried("equal", method(), [0.5, 0.4])
    sweep.confirmed("equal", method(), 1, {3: {"left/accuracy": 0.8, "ink/mae": 2.0}})
    sweep.search([3])
    [last] = read_choices(sweep.sweep.folder, "equal")
    earlier = "equal-trial=00-seed=3-" + sweep.run(
        "equal-trial=00", 3, method(), {"left/accuracy": 0.1, "ink/mae": 9.0}
    )
    first = Choice(1, 0, {"optimizer.lr": 0.001}, 0.0, last.candidates[:1], {3: earlier})
    last.number = 2
    write_choices(sweep.sweep.folder, "equal", [first, last])
    html = "\n".join(choices_section(contest_of(sweep)))
    assert "equal: trial 1 of 2" in html
    assert f"<td>earlier choice 1</td><td>trial 0: lr=0.001</td><td>1 trial</td><td>{earlier}</td>" in html
    [equal] = verdict_of(sweep.sweep).methods
    assert equal.leading["left/accuracy"][0] == 0.8
