"""Which trials a grid with `tune` has: shared values, own options, include and exclude,
and what a later submit adds to them.
"""

import json

import pytest

from mtlcluster.config.grid import read_grid
from mtlcluster.errors import UserError
from mtlcluster.launch.hand_over import sweep_of
from mtlcluster.launch.sweep_file import write_sweep_file
from mtlcluster.sweep.trials import read_search

HEAD = "name: s\njob: tiny\nset: {tasks: [a, b]}\n"
METHODS = """
    - equal
    - {schedule: single}
    - {weighting: {name: static, draws: 5}}
    - {weighting: {name: gradnorm, alpha: {uniform: [0.1, 3]}}}
    - {schedule: dsg, gradient: pcgrad}"""
LR = "  optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}\n"

# As its identity has it: without what stands at its first default. That of `layer` is another one since version 2.
GRADNORM = {"weighting": {"name": "gradnorm", "layer": "used_last"}}


def grid_text(methods=METHODS, keys=LR, tune="{trials: 8}", more=""):
    return f"{HEAD}grid:\n  method: {methods}\n{keys}tune: {tune}\n{more}"


@pytest.fixture
def search_of(write):
    """The methods of a grid by name."""
    return lambda *args, **options: read_grid(write(grid_text(*args, **options))).search.methods


@pytest.fixture
def submit(write, tmp_path):
    """Writes a grid's sweep file as `submit` does; returns the grid."""

    def submit(*args, **options):
        grid = read_grid(write(grid_text(*args, **options)), runs_folder=tmp_path / "runs")
        sweep = sweep_of(grid, tmp_path / "runs")
        sweep.folder.mkdir(parents=True, exist_ok=True)
        write_sweep_file(sweep, grid)
        return grid

    return submit


def values(method, key):
    return [trial.values.get(key) for trial in method.trials]


def test_every_method_has_the_same_trials_and_shares_their_values(search_of):
    methods = search_of(keys=LR + "  model.width: [4, 8]\n")
    assert [*methods] == ["equal", "single-a", "single-b", "static", "gradnorm", "dsg-pcgrad"]
    assert [methods[name].single_task for name in ("equal", "single-a", "single-b")] == [None, "a", "b"]
    for key in ("optimizer.lr", "model.width"):
        assert len({tuple(values(method, key)) for method in methods.values()}) == 1
    assert len({*values(methods["equal"], "optimizer.lr")}) == 8
    assert sorted(values(methods["equal"], "model.width")) == [4] * 4 + [8] * 4
    assert methods["gradnorm"].searched == ["optimizer.lr", "model.width", "method.weighting.alpha"]
    assert methods["gradnorm"].method == GRADNORM


def test_runs_have_the_drawn_values_their_roles_and_names(write):
    grid = read_grid(write(grid_text(tune="{trials: 5, seeds: {range: 2}}")))
    assert len(grid.runs) == len(grid.search.methods) * 5 * 2
    run = next(run for run in grid.runs if run.method == "gradnorm" and run.varied["seed"] == 1)
    trial = grid.search.methods["gradnorm"].trials[0]
    assert run.name == f"gradnorm-trial=00-seed=1-{run.hash}"
    assert run.varied == {"method": GRADNORM, **trial.values, "seed": 1}
    assert run.config.method["weighting"]["alpha"] == trial.values["method.weighting.alpha"]
    assert (run.config.optimizer.lr, run.config.seed) == (trial.values["optimizer.lr"], 1)
    assert trial.runs[1] == run.hash


def test_tune_and_confirm_are_no_part_of_the_identity_of_a_run(write):
    one = read_grid(write(grid_text(more="confirm: {seeds: 3}\n")))
    trial = one.search.methods["equal"].trials[0]
    plain = read_grid(write(f"{HEAD}grid: {{optimizer.lr: [{trial.values['optimizer.lr']}]}}\n"))
    assert plain.runs[0].hash == trial.runs[0]


def test_a_static_trial_takes_the_draw_of_its_number_and_begins_anew_one_further(search_of):
    weights = values(search_of(tune="{trials: 11}")["static"], "method.weighting.weights")
    assert weights[0] == {"a": 1, "b": 1}
    assert weights[5:11] == [*weights[1:5], weights[0], weights[2]]


def test_a_method_with_fewer_settings_than_trials_has_each_of_them_once(search_of):
    methods = search_of(methods="[equal, {weighting: {name: gradnorm, alpha: {choice: [1, 2]}}}]", keys="")
    assert [trial.values for trial in methods["equal"].trials] == [{}]
    assert sorted(values(methods["gradnorm"], "method.weighting.alpha")) == [1, 2]
    methods = search_of(
        methods="[equal]", keys="  model.width: [2, 4]\n  epochs: {range: [1, 4]}\n", tune="{trials: 9}"
    )
    assert len({*zip(values(methods["equal"], "model.width"), values(methods["equal"], "epochs"), strict=True)}) == 6


def test_the_rows_of_zip_are_one_choice(search_of):
    methods = search_of(more="zip: [{model.width: [4, 8], batch_size: [16, 32]}]\n")
    pairs = zip(values(methods["equal"], "model.width"), values(methods["equal"], "batch_size"), strict=True)
    assert {*pairs} == {(4, 16), (8, 32)}


def test_include_gives_the_first_trials_of_its_method_and_keeps_the_other_drawn_values(search_of):
    more = """include:
  - {method: equal, optimizer.lr: 0.5}
  - {method: {weighting: {name: gradnorm, alpha: 0.7}}}
"""
    drawn, methods = search_of(), search_of(more=more)
    assert values(methods["equal"], "optimizer.lr") == [0.5, *values(drawn["equal"], "optimizer.lr")[1:]]
    first = methods["gradnorm"].trials[0].values
    assert first == {**drawn["gradnorm"].trials[0].values, "method.weighting.alpha": 0.7}
    assert len(methods["gradnorm"].trials) == 8


def test_include_may_add_a_value_that_is_not_among_the_choices(search_of):
    more = "include: [{method: equal, model.width: 16}, {method: equal, model.width: 4}]\n"
    methods = search_of(methods="[equal]", keys="  model.width: [4, 8]\n", more=more)
    assert values(methods["equal"], "model.width") == [16, 4, 8]


def test_an_excluded_point_is_skipped_for_its_method_alone(search_of):
    more = "exclude: [{method: equal, model.width: 4}]\n"
    methods = search_of(keys=LR + "  model.width: [4, 8]\n", more=more)
    assert {*values(methods["equal"], "model.width")} == {8}
    assert {*values(methods["gradnorm"], "model.width")} == {4, 8}
    assert len(methods["equal"].trials) == 8


def test_a_later_submit_adds_trials_and_methods_and_changes_none(submit):
    first = submit(methods="[equal, gradnorm]", tune="{trials: 3}")
    grown = submit(methods="[{gradient: pcgrad}, gradnorm, equal]", tune="{trials: 5}")
    assert grown.remarks == []
    for name in ("equal", "gradnorm"):
        assert grown.search.methods[name].trials[:3] == first.search.methods[name].trials
        assert len(grown.search.methods[name].trials) == 5
    assert values(grown.search.methods["pcgrad"], "optimizer.lr") == values(
        grown.search.methods["equal"], "optimizer.lr"
    )
    assert {run.hash for run in first.runs} < {run.hash for run in grown.runs}


def test_in_a_changed_space_earlier_trials_keep_their_values(submit, tmp_path):
    first = submit(methods="[equal, gradnorm]", tune="{trials: 3}")
    alpha = "{weighting: {name: gradnorm, alpha: {uniform: [0.1, 3]}}}"
    grown = submit(methods=f"[{alpha}]", keys="  optimizer.lr: {uniform: [0.1, 0.2]}\n", tune="{trials: 5}")
    assert "earlier trials keep theirs" in grown.remarks[0]
    gradnorm = grown.search.methods["gradnorm"]
    assert gradnorm.trials[:3] == first.search.methods["gradnorm"].trials
    assert all(0.1 <= trial.values["optimizer.lr"] <= 0.2 for trial in gradnorm.trials[3:])
    assert all(0.1 <= trial.values["method.weighting.alpha"] <= 3 for trial in gradnorm.trials[3:])
    assert {run.method for run in grown.runs} == {"gradnorm"}
    on_disk = read_search(tmp_path / "runs/s/trials.json")
    assert on_disk.methods["equal"] == first.search.methods["equal"]  # left out of the grid, kept in the sweep


def test_trials_that_another_submit_has_added_are_not_overwritten(submit, write, tmp_path):
    submit(tune="{trials: 5}")
    late = read_grid(write(grid_text(tune="{trials: 6, draw_seed: 1}")), runs_folder=tmp_path / "runs")
    submit(tune="{trials: 7}")
    with pytest.raises(UserError, match="another submit of s has finished in the meantime"):
        write_sweep_file(sweep_of(late, tmp_path / "runs"), late)


def test_methods_that_differ_in_options_have_names_of_their_own_that_stay(submit):
    two = "{weighting: {name: gradnorm, alpha: 2}}, {weighting: {name: gradnorm, alpha: {uniform: [0.1, 3]}}}, gradnorm"
    assert [*submit(methods=f"[{two}]").search.methods] == ["gradnorm-alpha-2", "gradnorm", "gradnorm-2"]
    grown = submit(methods="[gradnorm, {weighting: {name: gradnorm, alpha: {uniform: [0.1, 3]}}}]")
    assert {run.method: len(run.varied) for run in grown.runs} == {"gradnorm-2": 3, "gradnorm": 4}


def test_a_method_of_the_configuration_is_tuned_too(write):
    grid = read_grid(write(f"{HEAD}grid: {{optimizer.lr: {{uniform: [0.1, 1]}}}}\ntune: {{trials: 2}}\n"))
    assert [*grid.search.methods] == ["equal"]


def test_the_value_that_chooses_is_the_one_that_chooses_the_checkpoint(write):
    def read(tune, head=HEAD):
        grid = read_grid(write(head + f"grid: {{optimizer.lr: [0.1, 0.2]}}\ntune: {tune}\n"))
        return grid.search.value, grid.search.direction, grid.runs[0].config.best.value

    assert read("{trials: 2, value: mean_f1}") == ("mean_f1", "max", "mean_f1")
    assert read("{trials: 2, value: a/loss}") == ("a/loss", "min", "a/loss")
    best = "name: s\njob: tiny\nset: {best: {value: a/f1, direction: max}}\n"
    assert read("{trials: 2}", best) == read("{trials: 2, value: a/f1}", best) == ("a/f1", "max", "a/f1")


@pytest.mark.parametrize(
    ("options", "line", "message"),
    [
        ({"tune": "{trials: 0}"}, 12, "tune.trials should be greater than 0"),
        ({"tune": "{trials: 2, seed: 1}"}, 12, "unknown key 'seed'; did you mean 'seeds'"),
        ({"tune": "{trials: 2, seeds: [0, 0]}"}, 12, "different seeds"),
        ({"tune": "{trials: 2, seeds: {range: [0, 10000000000000000000000]}}"}, 12, "different seeds"),
        ({"tune": "{trials: 8, value: a/accuracy}"}, 12, "set: {best: {value: a/accuracy, direction: max}}"),
        ({"tune": "{trials: 2, seeds: {linspace: [0, 1, 2]}}"}, 12, "found {'linspace': [0.0, 1.0, 2.0]}"),
        ({"tune": "{trials: 2, seeds: [9223372036854775807]}", "more": "confirm: {seeds: 2}\n"}, 12, "different seeds"),
        ({"tune": "{trials: 8, value: mean_los}"}, 12, "no validation value 'mean_los' over all tasks; did you mean"),
        ({"tune": "{trials: 8, value: c/loss}"}, 12, "names the task 'c', which is not in tasks (known: a, b)"),
        ({"tune": "{trials: 2, prune: {at: [0.5, 0.1]}}"}, 12, "rising shares"),
        ({"tune": "{trials: 2, prune: {at: [0.5], keep: 1}}"}, 12, "less than 1"),
        ({"tune": "{trials: 20000}"}, 12, "120,000 trial runs; the limit is 10,000"),
        ({"tune": "{trials: 4}"}, 8, "draws (5) of static should be at most the trials"),
        ({"keys": LR + "  seed: [0, 1]\n"}, 12, "seed can't be searched: give the seeds in `tune"),
        ({"more": "zip: [{seed: [0, 1]}]\n"}, 13, "seed can't be searched"),
        ({"more": "include: [{method: equal, seed: 3}]\n"}, 13, "seed in include"),
        ({"more": "exclude: [{seed: 3}]\n"}, 13, "seed in exclude"),
        ({"more": "include: [{optimizer.lr: 0.1}]\n"}, 13, "needs its `method`"),
        ({"more": "include: [{method: pcgrad}]\n"}, 13, "include names a method that the grid does not have"),
        ({"more": "exclude: [{optimizer.l: 0.1}]\n"}, 13, "did you mean 'optimizer.lr'"),
        ({"more": "exclude: [{method: static, model.width: 4}]\n", "keys": LR + "  model.width: [4]\n"}, 8, "leave 0"),
        ({"more": "confirm: {seeds: 0}\n"}, 13, "count from 1"),
        ({"more": "confirm: {seeds: [1, 1]}\n"}, 13, "different seeds"),
        ({"keys": "  model.width: {uniform: [4, 8]}\n"}, 11, "for whole numbers write {range: [first, end]} or a list"),
        ({"keys": "  best.value: [mean_loss]\n"}, 11, "best.value can't be searched"),
        ({"keys": "  optimizer.lr: {uniform: [2, 1]}\n"}, 11, "low below high"),
        ({"keys": "  optimizer.lr: {unifrm: [2, 1]}\n"}, 11, "unknown key 'unifrm'; did you mean 'uniform'?"),
        ({"keys": "  optimizer.lr: []\n"}, 11, "grid.optimizer.lr has no values"),
        ({"keys": "  seed: {range: [3, 1]}\n"}, 11, "grid.seed has no values"),
        ({"keys": "  model.width: {range: [1, 1000000000000]}\n"}, 11, "999,999,999,999 values; the limit is 100,000"),
        ({"more": "zip: [{model.width: [], batch_size: []}]\n"}, 13, "zip.0.model.width has no values"),
        ({"more": "zip: [{model.width: {range: 1000000000000}}]\n"}, 13, "values; the limit is 100,000"),
        ({"more": "include: [{method: equal, optimizer.lr: abc}]\n"}, 13, "should be a valid number, found 'abc'"),
        ({"more": "exclude: [{method: equal, optimizer.lr: abc}]\n"}, 13, "should be a valid number, found 'abc'"),
        ({"more": "exclude: [{model.width: 7}]\n", "keys": "  model.width: [4, 8]\n"}, 13, "exclude matches no"),
        ({"methods": "[{weighting: {choice: [dwa, rlw]}}]"}, 5, "method.weighting can't be drawn: every method is"),
        ({"methods": "[{weighting: {name: {choice: [dwa, rlw]}}}]"}, 5, "method.weighting.name can't be drawn"),
        ({"methods": "[{schedule: {name: single, task: {choice: [a, b]}}}]"}, 5, "the task of single can't be drawn"),
        ({"keys": "  model.width: [8, '8']\n"}, 11, "read alike; write both in the same way"),
        ({"methods": "[equal, {weighting: equal}]"}, 5, "the method equal stands twice"),
        ({"methods": "{choice: [equal]}"}, 5, "method can't be drawn"),
    ],
)  # fmt: skip
def test_a_wrong_search_is_refused_with_file_and_line(write, options, line, message):
    path = write(grid_text(**options))
    with pytest.raises(UserError) as refused:
        read_grid(path)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("grid: {optimizer.lr: {uniform: [0.1, 1]}}\n", "optimizer.lr is drawn, which needs `tune`"),
        ("grid: {optimizer.lr: [0.1, 1]}\nconfirm: {seeds: 2}\n", "confirm needs `tune`"),
    ],
)
def test_draws_and_confirm_need_tune(write, more, message):
    with pytest.raises(UserError, match=message):
        read_grid(write(HEAD + more))


def test_a_grid_with_64_keys_is_searched_and_one_with_more_is_refused(write):
    options = "".join(f"    x{i}: int = 0\n" for i in range(65))
    write(
        f"from dataclasses import dataclass\n@dataclass\nclass D:\n{options}\ndef build(data: D): ...\n", "jobs/wide.py"
    )
    head = "name: s\njob: wide\ntune: {trials: 2}\ngrid:\n"
    keys = [f"  data.x{i}: [0, 1]\n" for i in range(65)]
    assert len(read_grid(write(head + "".join(keys[:64]))).search.columns) == 64
    with pytest.raises(UserError, match="more than 64 keys"):
        read_grid(write(head + "".join(keys)))


def test_trials_json_holds_plain_values(submit, tmp_path):
    submit()
    text = (tmp_path / "runs/s/trials.json").read_text()
    assert json.loads(text)["methods"]["gradnorm"]["trials"][7]["trial"] == 7
