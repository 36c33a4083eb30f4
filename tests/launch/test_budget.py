"""What the dry run says about the size of a search, and what `submit` writes of it."""

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.launch.budget import budget
from mtlcluster.launch.dry_run import preview
from mtlcluster.launch.hand_over import sweep_of
from mtlcluster.launch.packing import Unit
from mtlcluster.sweep.choices import Choice, write_choices
from mtlcluster.sweep.trials import read_search

SEARCH = {
    "grid": {
        "method": ["equal", {"weighting": {"name": "gradnorm", "alpha": {"uniform": [0.1, 3]}}}],
        "optimizer.lr": {"loguniform": [1e-4, 1e-2]},
    },
    "tune": {"trials": 3, "seeds": [0, 1]},
    "confirm": {"seeds": 4},
    "resources": {"time": "30m", "cpus": 2},
}


def test_the_dry_run_counts_trials_and_confirming_runs_and_hours(project, make_grid):
    text = preview(make_grid(**SEARCH), project / "runs", "local")
    assert "  equal: 3 trials with 2 seeds, 6 runs, 4 confirming runs\n" in text
    assert "  gradnorm: 3 trials with 2 seeds, 6 runs, 4 confirming runs\n" in text
    assert "at most 20.0 CPU hours: 20 runs, each for its whole time\n" in text
    grid = make_grid(**{**SEARCH, "resources": {"time": "3h", "gpus": 2, "nodes": 2}})
    units = [Unit(run.name, run.config.resources, "") for run in grid.runs]
    assert budget(sweep_of(grid, project / "runs"), grid, units)[-1].startswith("at most 240.0 GPU hours: 20 runs")


def test_without_confirm_the_dry_run_says_so_and_a_method_with_nothing_to_search_is_named(project, make_grid):
    plain = {**SEARCH, "grid": {"method": ["equal"]}, "confirm": None}
    text = preview(make_grid(**plain), project / "runs", "local")
    assert "  equal: 1 trial with 2 seeds, 2 runs (nothing of it is searched), 0 confirming runs\n" in text
    assert "no confirming runs: tuned and tested on the same seeds" in text


def test_what_is_confirmed_is_not_counted_again_unless_its_method_gets_more_trials(project, make_grid):
    grid = make_grid(**{**SEARCH, "confirm": {"seeds": 5}})
    sweep = sweep_of(grid, project / "runs")
    for method, searched in grid.search.methods.items():
        runs = {seed: f"{method}-trial=00-seed={seed}-0123456789" for seed in (2, 3, 4, 5)}
        write_choices(sweep.folder, method, [Choice(1, 0, searched.trials[0].values, 0.0, [], runs)])
    assert budget(sweep, grid, [])[-1] == "at most 2.0 CPU hours: 2 runs, each for its whole time"
    new = [Unit(run.name, run.config.resources, "") for run in grid.runs if run.method == "gradnorm"][:1]
    assert budget(sweep, grid, new)[-1] == "at most 7.0 CPU hours: 7 runs, each for its whole time"


@pytest.mark.usefixtures("fake_child")
def test_submit_keeps_the_trials_and_adds_to_them(project, make_grid, submit_locally):
    first = submit_locally(make_grid(**SEARCH))
    before = read_search(first.sweep.trials)
    path = make_grid(**{**SEARCH, "tune": {"trials": 4, "seeds": [0, 1]}}).path
    second = submit_locally(read_grid(path, runs_folder=project / "runs")).submitted
    after = read_search(first.sweep.trials)
    for name, method in before.methods.items():
        assert after.methods[name].trials[:3] == method.trials
    assert len(second.new) == 4
    assert all("-trial=03-" in name for name in second.new)


@pytest.mark.usefixtures("fake_child")
def test_a_sweep_without_tune_can_be_searched_later_and_its_runs_are_not_trained_again(make_grid, submit_locally):
    keys = {"method": ["equal", "pcgrad"], "model.width": [4, 8]}
    plain = submit_locally(make_grid(grid={**keys, "seed": [0]}))
    assert not plain.sweep.trials.exists()
    searched = submit_locally(make_grid(grid=keys, tune={"trials": 4})).submitted
    assert (searched.new, len(read_search(plain.sweep.trials).methods["pcgrad"].trials)) == ([], 2)
    assert submit_locally(make_grid(grid={**keys, "seed": [0]})).submitted.new == []
