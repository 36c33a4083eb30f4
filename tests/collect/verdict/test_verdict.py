"""Verdicts of sweeps on disk, worked by hand."""

import json
import math

import pytest
from rig.contests import Contestants, verdict_of
from rig.synthetic_sweep import method

from mtlcluster.collect.verdict.verdict_json import verdict_json
from mtlcluster.sweep.names import hash_of

LEFT, INK = ({"name": "single", "task": task} for task in ("left", "ink"))


@pytest.fixture
def sweep(tmp_path):
    return Contestants.at(tmp_path / "runs")


def row(verdict, name):
    return next(result for result in verdict.methods if result.name == name)


def test_every_setting_of_a_plain_grid_is_a_row_relative_to_one_baseline(sweep):
    """By hand: the baselines are .8 and 2.0; accuracy .84 is 5 points, mae 1.9 is 5 points, .82 is 2.5."""
    sweep.singles()
    sweep.plain("equal", [0.84, 0.80, 0.81], ink=1.9)
    sweep.plain("pcgrad", [0.82, 0.80, 0.78])
    verdict = verdict_of(sweep.sweep)
    assert [m.name for m in verdict.methods] == ["single-task", "equal", "pcgrad"]
    assert list(row(verdict, "equal").z_by_seed.values()) == pytest.approx([5, 2.5, 3.125])
    assert list(row(verdict, "pcgrad").z_by_seed.values()) == pytest.approx([1.25, 0, -1.25])
    assert row(verdict, "equal").per_task == pytest.approx({"left": (5 + 0 + 1.25) / 3, "ink": 5})
    assert row(verdict, "pcgrad").versus_reference.difference == pytest.approx(-10.625 / 3)
    assert (verdict.reference, verdict.relative_to, verdict.data) == ("equal", "single-task training", "test")
    assert verdict.baseline["left"].mean == pytest.approx({"accuracy": 0.8})
    assert len(verdict.baseline["ink"].run_hashes) == 3
    assert not verdict.tuned
    assert verdict.sentences[0].startswith("Nothing was tuned: 2 settings")
    assert 3 <= len(verdict.sentences) <= 6


def test_of_several_single_task_settings_each_task_has_the_one_with_the_best_validation_value(sweep):
    for task, options in (("left", LEFT), ("ink", INK)):
        for lr, number, value in ((0.1, 0.5, 0.9), (0.2, 0.4 if task == "left" else 0.6, 0.7)):
            key = "left/accuracy" if task == "left" else "ink/mae"
            full, varied = method(schedule=options), {"optimizer.lr": lr}
            sweep.run(f"single-{task}-lr={lr}", 0, full, {key: value}, number=number, varied=varied)
    sweep.plain("equal", [0.8])
    verdict = verdict_of(sweep.sweep)
    assert {task: one.mean for task, one in verdict.baseline.items()} == {
        "left": {"accuracy": 0.7},
        "ink": {"mae": 0.9},
    }


def test_without_baselines_of_all_tasks_values_are_relative_to_the_plain_sum(sweep):
    sweep.run("single-left", 0, method(schedule=LEFT), {"left/accuracy": 0.5})
    sweep.plain("equal", [0.80, 0.84])
    sweep.plain("pcgrad", [0.82, 0.861])
    verdict = verdict_of(sweep.sweep)
    assert verdict.relative_to == "the plain sum"
    assert row(verdict, "equal").z == pytest.approx(0)
    assert row(verdict, "pcgrad").z == pytest.approx(100 * 0.0205 / 0.82 / 2)
    assert "relative to the plain sum" in verdict.sentences[-1]
    assert any("baselines of ink" in text and "{schedule: single}" in text for text in verdict.missing)


def test_only_the_chosen_setting_of_each_method_is_compared_on_fresh_seeds(sweep):
    """The choice on disk decides; the tuning seed's run, which looks better, does not count."""
    for task, options in (("left", LEFT), ("ink", INK)):
        sweep.tried(f"single-{task}", method(schedule=options), [0.5, 0.4])
        of_seed = {"left/accuracy": 0.8} if task == "left" else {"ink/mae": 2.0}
        sweep.confirmed(f"single-{task}", method(schedule=options), 1, {1: of_seed, 2: of_seed, 3: of_seed})
    for name, accuracies in (("equal", (0.80, 0.82, 0.84)), ("pcgrad", (0.84, 0.862, 0.88))):
        full = method() if name == "equal" else method(gradient=name)
        sweep.tried(
            name, full, [0.5, 0.45, None], values={"left/accuracy": 0.99, "ink/mae": 1.0}, backwards=[100, 90, 30]
        )
        values = {seed: {"left/accuracy": value, "ink/mae": 2.0} for seed, value in enumerate(accuracies, 1)}
        sweep.confirmed(name, full, 1, values)
    sweep.search([1, 2, 3])
    verdict = verdict_of(sweep.sweep)
    assert (verdict.tuned, verdict.fresh_seeds, verdict.complete, verdict.seeds) == (True, True, True, [1, 2, 3])
    pcgrad = row(verdict, "pcgrad")
    assert (pcgrad.chosen, pcgrad.values, pcgrad.trials, pcgrad.seeds) == (1, {"optimizer.lr": 0.002}, 3, 1)
    assert list(pcgrad.z_by_seed.values()) == pytest.approx([2.5, 3.875, 5])
    assert (pcgrad.backwards, pcgrad.pruned, pcgrad.failed) == (100 + 90 + 30 + 3 * 100, 1, 0)
    assert pcgrad.versus_reference.words == "better"
    assert verdict.better == ["pcgrad"]
    single = row(verdict, "single-task")
    assert (single.single, single.trials, single.z) == (True, 4, pytest.approx(0))
    assert "pcgrad is better than the plain sum by" in " ".join(verdict.sentences)


@pytest.mark.parametrize(
    ("numbers", "backwards", "chosen"),
    [
        ([0.5, 0.4, 0.6], [1, 1, 1], 1),
        ([0.5, 0.4, 0.4], [9, 9, 5], 2),  # a tie: fewer backward passes
        ([0.4, 0.4, 0.4], [7, 5, 5], 1),  # then the smaller number
        ([0.5, None, 0.6], [1, 1, 1], 0),  # a pruned one can't be chosen
    ],
)
def test_without_confirming_seeds_the_best_trial_is_chosen_here(sweep, numbers, backwards, chosen):
    sweep.tried("equal", method(), numbers, backwards=backwards)
    sweep.search([])
    verdict = verdict_of(sweep.sweep)
    assert row(verdict, "equal").chosen == chosen
    assert not verdict.fresh_seeds
    assert any("Tuned and tested on the same seeds" in text for text in verdict.warnings)


def confirmed(sweep, **states):
    for name, accuracies in (
        ("equal", (0.80, 0.82, 0.84)),
        ("pcgrad", (0.90, 0.922, 0.94)),
        ("cagrad", (0.7, 0.72, 0.74)),
    ):
        full = method() if name == "equal" else method(gradient=name)
        sweep.tried(name, full, [0.5, 0.4])
        values = {seed: {"left/accuracy": value, "ink/mae": 2.0} for seed, value in enumerate(accuracies, 1)}
        sweep.confirmed(name, full, 1, values, **(states if name == "pcgrad" else {}))
    sweep.search([1, 2, 3])
    return verdict_of(sweep.sweep)


def test_half_way_only_methods_whose_runs_have_ended_are_compared_and_nothing_is_bold(sweep):
    verdict = confirmed(sweep, seed_3="running")
    assert not verdict.complete
    assert not verdict.strict
    assert row(verdict, "pcgrad").missing == "1 of 3 confirming runs have not ended"
    assert row(verdict, "pcgrad").versus_reference is None
    assert row(verdict, "cagrad").versus_reference is not None
    assert verdict.best_group == ["equal", "cagrad"]
    assert any(text.startswith("Not compared: pcgrad") for text in verdict.sentences)


def test_the_worst_z_of_its_seed_stands_for_a_run_that_failed(sweep):
    verdict = confirmed(sweep, seed_3="failed")
    pcgrad, cagrad = row(verdict, "pcgrad"), row(verdict, "cagrad")
    assert verdict.complete
    assert (pcgrad.failed, pcgrad.worst_put_in, pcgrad.n) == (1, [3], 2)
    assert pcgrad.z == pytest.approx((pcgrad.z_by_seed[1] + pcgrad.z_by_seed[2] + cagrad.z_by_seed[3]) / 3)
    assert any(text.startswith("pcgrad: 1 of 3 runs failed") for text in verdict.warnings)


def test_one_seed_is_not_tested_and_two_have_intervals_but_no_best_group(sweep):
    sweep.singles()
    sweep.plain("equal", [0.80])
    sweep.plain("pcgrad", [0.95])
    verdict = verdict_of(sweep.sweep)
    assert math.isnan(row(verdict, "pcgrad").versus_reference.low)
    assert (verdict.strict, verdict.better, verdict.best_group) == (False, [], ["equal", "pcgrad"])
    assert "With one seed no test is possible" in " ".join(verdict.sentences)

    sweep.run("equal", 1, method(), {"left/accuracy": 0.81, "ink/mae": 2.0})
    sweep.run("pcgrad", 1, method(gradient="pcgrad"), {"left/accuracy": 0.9601, "ink/mae": 2.0})
    verdict = verdict_of(sweep.sweep)
    assert row(verdict, "pcgrad").versus_reference.low > 0
    assert not verdict.strict
    assert "no best group is formed" in " ".join(verdict.sentences)


def test_a_method_of_a_plain_grid_that_still_runs_waits_and_one_of_which_nothing_is_done_is_named(sweep):
    sweep.singles()
    sweep.plain("equal", [0.8, 0.81])
    sweep.plain("pcgrad", [0.82])
    sweep.run("pcgrad", 1, method(gradient="pcgrad"), {}, state="running")
    sweep.run("cagrad", 0, method(gradient="cagrad"), {}, state="running")
    verdict = verdict_of(sweep.sweep)
    assert {m.name: m.missing for m in verdict.methods if m.missing} == {
        "pcgrad": "1 of 2 runs have not ended",
        "cagrad": "1 of 1 runs have not ended",
    }
    assert not verdict.complete


def test_a_method_without_a_trial_that_is_done_is_named_and_keeps_no_verdict_waiting(sweep):
    values = {seed: {"left/accuracy": 0.8, "ink/mae": 2.0} for seed in (1, 2)}
    sweep.tried("equal", method(), [0.5])
    sweep.confirmed("equal", method(), 0, values)
    sweep.tried("pcgrad", method(gradient="pcgrad"), [0.5])
    sweep.tried("cagrad", method(gradient="cagrad"), [None])
    sweep.search([1, 2])
    verdict = verdict_of(sweep.sweep)
    assert {m.name: m.missing for m in verdict.methods if m.missing} == {
        "pcgrad": "its setting is not chosen yet",
        "cagrad": "no trial of it is done",
    }
    sweep.confirmed("pcgrad", method(gradient="pcgrad"), 0, values)
    assert verdict_of(sweep.sweep).complete


def test_methods_are_compared_on_the_seeds_that_all_have(sweep):
    sweep.singles()
    sweep.plain("equal", [0.80, 0.81, 0.83])
    sweep.plain("pcgrad", [0.84, 0.86])
    verdict = verdict_of(sweep.sweep)
    assert verdict.seeds == [0, 1]
    assert row(verdict, "equal").z == pytest.approx((0 + 0.625) / 2)


def test_unequal_budgets_are_said_and_compared_at_the_smallest(sweep):
    """By hand: two of the trials .4, .5, .9 have as their best .4, .4 or .5."""
    sweep.tried("equal", method(), [0.4, 0.6])
    sweep.tried("pcgrad", method(gradient="pcgrad"), [0.5, 0.4, 0.9])
    sweep.search([])
    verdict = verdict_of(sweep.sweep)
    assert row(verdict, "pcgrad").expected_best == pytest.approx(1.3 / 3)
    assert row(verdict, "equal").expected_best == pytest.approx(0.4)
    assert any(text.startswith("Budgets differ: the methods have 2 to 3 trials.") for text in verdict.warnings)


def test_a_method_that_is_dearer_than_the_plain_sum_is_named_with_the_lines_for_an_equal_cost(sweep):
    for name, passes in (("equal", 100), ("pcgrad", 300)):
        full = method() if name == "equal" else method(gradient=name)
        for seed in range(2):
            sweep.run(name, seed, full, {"left/accuracy": 0.8 + 0.01 * seed, "ink/mae": 2.0}, backwards=passes)
    assert any(
        text.startswith("A run of pcgrad takes 3.0 times the backward passes of equal.")
        and "include: [{method: equal, epochs: 6, seed: …}]" in text
        for text in verdict_of(sweep.sweep).warnings
    )
    varied = {"epochs": 6}
    for seed in range(2):
        sweep.run("long", seed, method(), {"left/accuracy": 0.8, "ink/mae": 2.0}, backwards=300, varied=varied)
    assert any("as many backward passes as the dearest" in text for text in verdict_of(sweep.sweep).warnings)


def test_a_static_weight_disguised_as_a_method_lies_on_the_front(sweep):
    sweep.singles()
    weights = [0.2 * i for i in range(1, 10)]

    def values(weight):
        return {"left/accuracy": 0.7 + 0.1 * math.sqrt(weight), "ink/mae": 2.4 - 0.5 * math.sqrt(2 - weight)}

    for weight in weights:
        static = {"name": "static", "weights": {"left": weight, "ink": 2 - weight}}
        sweep.run(f"static-{weight:.1f}", 0, method(weighting=static), values(weight))
    twin = values(0.6)  # a little worse than its twin on both tasks, by less than delta
    noisy = {"left/accuracy": twin["left/accuracy"] - 0.002, "ink/mae": twin["ink/mae"] + 0.01}
    sweep.run("mine", 0, method(weighting="famo"), noisy)
    sweep.run("poor", 0, method(gradient="pcgrad"), {"left/accuracy": 0.6, "ink/mae": 2.5})
    front = verdict_of(sweep.sweep).front
    assert all(point.on_front for point in front.points)
    assert (front.methods["famo"].place, front.methods["famo"].on_validation) == ("on", 1)
    assert (front.methods["pcgrad"].place, front.methods["pcgrad"].again_on_test) == ("below", 9)
    assert any("famo lies on the front of the 9 static weights" in text for text in front.sentences)


def test_the_test_datas_own_error_widens_the_intervals(sweep):
    sweep.singles()
    sweep.plain("equal", [0.80, 0.81, 0.83])
    sweep.plain("pcgrad", [0.84, 0.86, 0.86])
    alone, wider = verdict_of(sweep.sweep), verdict_of(sweep.sweep, {"pcgrad": 1.0})
    half = [(v.high - v.low) / 2 for v in (row(verdict, "pcgrad").versus_reference for verdict in (alone, wider))]
    assert half[1] == pytest.approx(math.hypot(half[0], 1.959964), rel=1e-6)
    assert "the test data's own error is part of the intervals" in wider.sentences[-1]


def test_verdict_json_has_no_nan_and_the_documented_keys(sweep):
    sweep.singles(seeds=range(1))
    sweep.plain("equal", [0.80])
    made = json.loads(verdict_json(verdict_of(sweep.sweep)), parse_constant=pytest.fail)
    assert made["format"] == 1
    assert {"complete", "seeds", "reference", "baseline", "methods", "best_group", "better", "worse", "missing"} <= {
        *made
    }
    assert made["smallest_difference"] is None
    assert made["baseline"]["left"]["sd"] == {"accuracy": None}
    names = {hash_of(run.name) for run in sweep.sweep.runs()}
    assert {*made["baseline"]["left"]["run_hashes"]} <= names
