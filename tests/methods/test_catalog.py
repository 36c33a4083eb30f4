"""What a configuration may say of its method, and what it is told when it is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest
from click.testing import CliRunner

from mtlcluster.cli import app
from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.methods.catalog import SLOTS, catalog, check_method, method_label, named_tasks, names, sparse_method

README = Path(__file__).parents[2] / "README.md"


def test_short_and_long_forms_are_the_same_method():
    for form in ({"gradient": "pcgrad"}, {"gradient": {"name": "pcgrad"}}):
        assert check_method("pcgrad") == check_method(form)
    assert check_method({"weighting": {"name": "gradnorm", "alpha": 1.5}}) == check_method("gradnorm")
    assert method_label(check_method("equal")) == "equal"
    assert method_label(check_method({"schedule": "dsg", "weighting": {"name": "gradnorm", "alpha": 0.5}})) == (
        "dsg+gradnorm(alpha=0.5)"
    )
    static = {"weighting": {"name": "static", "weights": {"left": 0.1, "right": 2.0}}}
    assert method_label(check_method(static)) == "static(left=0.1,right=2)"
    assert sparse_method(check_method({"schedule": "all", "gradient": "pcgrad"})) == {"gradient": {"name": "pcgrad"}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("pcgard", "unknown method 'pcgard'; did you mean 'pcgrad'"),
        ({"gradiant": "pcgrad"}, "no slot 'gradiant'; did you mean 'gradient'"),
        ({"weighting": "pcgrad"}, "'pcgrad' is a gradient, not a weighting"),
        ({"weighting": {"name": "gradnorm", "alhpa": 1.0}}, "unknown key 'alhpa'; did you mean 'alpha'"),
        ({"weighting": {"name": "gradnorm", "alpha": -1.0}}, "alpha should be greater than or equal to 0"),
        ({"weighting": {"name": "gradnorm", "alpha": "much"}}, "alpha should be a valid number, found 'much'"),
        ({"schedule": "single"}, "missing key 'task'"),
        ({"weighting": {"alpha": 1.0}}, "should be a name or"),
        (7, "should be a name or a mapping"),
    ],
)
def test_a_wrong_method_is_refused_with_the_nearest_right_name(value, message):
    with pytest.raises(ValueError, match=message):
        check_method(value)


def test_every_method_says_what_it_does_and_is_checked_without_torch():
    for entry in catalog():
        assert entry.summary.endswith("."), entry.name
    code = "import sys; from mtlcluster.methods.catalog import catalog; catalog(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_gradient_method_may_have_a_usual_weighting():
    full = check_method("db_mtl")
    assert full["weighting"] == {"name": "scale_invariant"}
    assert full == check_method({"weighting": "scale_invariant", "gradient": "db_mtl"})
    assert method_label(full) == "db_mtl"
    other = check_method({"weighting": "equal", "gradient": "db_mtl"})
    assert method_label(other) == "equal+db_mtl"
    hashes = {run_hash(RunConfig(job="j", method=m)) for m in ("db_mtl", full, other, sparse_method(other))}
    assert len(hashes) == 2


def test_identities_of_earlier_versions_are_kept():
    combined = {"schedule": "dsg", "weighting": "gradnorm", "gradient": "pcgrad"}
    for method, known in (("equal", "55ce294960"), ("cagrad", "fa6c831ca3"), (combined, "0b9085e2d3")):
        old = RunConfig.model_validate({"job": "jobs/tiny.py:build", "method": method}, context={"defaults": 1})
        assert run_hash(old) == known


def test_where_and_how_often_are_options_of_every_method_that_needs_a_gramian():
    for name in names("gradient"):
        if name == "torchjd":  # has a required option
            continue
        [method] = [m for m in catalog() if m.slot == "gradient" and m.name == name]
        full = check_method(name)["gradient"]
        if method.constants["needs"] == "gramian":
            assert (full["at"], full["every"], full["layer"]) == ("shared", 1, None)
            full = check_method({"gradient": {"name": name, "at": "last_layer"}})["gradient"]
            assert full["layer"] == "used_last"
        else:
            assert not {"at", "every", "layer"} & full.keys()
    approximate = {"gradient": {"name": "cagrad", "at": "last_layer", "every": 5}}
    assert method_label(check_method(approximate)) == "cagrad(at=last_layer,every=5)"


ALONE = {"schedule": {"name": "single", "task": "a"}}
BY_HAND = {"schedule": {"name": "curriculum", "stages": {0: ["a"], 2: ["b"]}}}


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({**ALONE, "gradient": "pcgrad"}, "'single' trains one task a step: gradient 'pcgrad' has nothing to bring"),
        ({"schedule": "round_robin", "gradient": "moco"}, "gradient 'moco' has nothing to bring together; use sum"),
        ({"schedule": "sequential", "gradient": "cagrad"}, "'sequential' trains one task a step"),
        ({**BY_HAND, "gradient": "mgda"}, "'curriculum' trains one task a step"),
        ({"schedule": "round_robin", "weighting": "gradnorm"}, "no other task to weigh it against; use equal"),
        ({"schedule": "round_robin", "weighting": "stch"}, "weighting 'stch' .* use scale_invariant"),
        ({**ALONE, "weighting": "dwa"}, "'dwa' has no other to compare it with"),
        ({"schedule": {"name": "sequential", "order": ["a", "b", "a"]}}, "order names a task twice"),
        ({"gradient": {"name": "sum", "every": 2}}, "'sum': it takes one plain backward.* no option 'every'"),
        ({"gradient": {"name": "graddrop", "at": "last_layer"}}, "works on the gradients themselves.* no option 'at'"),
        ({"gradient": {"name": "mgda", "layer": "trunk"}}, "layer has a meaning with at: last_layer only"),
        (
            {"weighting": "gradnorm", "gradient": {"name": "mgda", "at": "last_layer", "layer": "trunk.2"}},
            "look at one layer, found used_last and trunk.2: give both the same",
        ),
        ({"gradient": {"name": "mgda", "at": "head"}}, "at should be 'shared', 'representation' or 'last_layer'"),
        ({"gradient": {"name": "mgda", "every": 0}}, "every should be greater than or equal to 1"),
    ],
)
def test_what_has_no_meaning_together_is_refused_with_the_reason(method, reason):
    with pytest.raises(ValueError, match=reason):
        check_method(method)


@pytest.mark.parametrize(
    "method",
    [
        {**ALONE, "weighting": {"name": "static", "weights": {"a": 0.1}}},
        {"schedule": "round_robin", "weighting": "uncertainty"},
        {"schedule": "sequential", "weighting": "dwa"},
        {"schedule": {"name": "curriculum", "stages": {0: ["a"], 2: ["a", "b"]}}, "gradient": "mgda"},
        {"weighting": {"name": "static", "weights": {"a": 0.1}}, "gradient": "pcgrad"},
        {"schedule": "dsg", "weighting": "gradnorm", "gradient": {"name": "cagrad", "every": 4}},
        {"schedule": "difficulty_sampling", "weighting": "gradnorm"},
    ],
)
def test_what_has_a_meaning_is_not_refused(method):
    assert check_method(check_method(method)) == check_method(method)


def test_a_compiled_model_has_no_representation_to_look_at():
    method = {"gradient": {"name": "mgda", "at": "representation"}}
    with pytest.raises(pydantic.ValidationError, match="compile hides the representation"):
        RunConfig(job="j", method=method, compile=True)
    RunConfig(job="j", method=method)
    RunConfig(job="j", method={"gradient": {"name": "mgda", "at": "last_layer"}}, compile=True)


def test_tasks_are_found_wherever_a_method_names_them():
    static = {"weighting": {"name": "static", "weights": {"c": 1.0}}}
    assert named_tasks(check_method(ALONE | static)) == ["a", "c"]
    assert named_tasks(check_method(BY_HAND)) == ["a", "b"]
    jd = {"gradient": {"name": "torchjd", "aggregator": "Krum", "options": {"n_byzantine": 1}}}
    assert named_tasks(check_method(jd)) == []


def test_the_readmes_table_names_every_method():
    for slot in SLOTS:
        [row] = re.findall(rf"^\| `{slot}` \|[^|]*\|([^|]*)\|$", README.read_text("utf-8"), re.MULTILINE)
        assert sorted(re.findall(r"`(\w+)`", row)) == list(names(slot))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("cagrad", ["Needs: the inner products of the tasks' gradients", "Cites: Liu et al., Conflict", "every: k"]),
        ("graddrop", ["Needs: the tasks' gradients themselves"]),
        ("db_mtl", ["weighting scale_invariant, taken where none is given"]),
        ("sum", ["Costs: one plain backward, nothing more"]),
        ("gradnorm", ["the norm of each task's gradient at the last shared layer", "Minimises Σ"]),
        ("famo", ["the losses of the same samples after the step", "Costs: one forward more; with accumulate another"]),
        ("dsg", ["Needs: what validations find", "While it is stopped, it trains only at every"]),
    ],
)
def test_one_method_in_words_says_what_it_does_needs_costs_and_cites(name, lines):
    shown = CliRunner().invoke(app, ["methods", name])
    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    for line in lines:
        assert line in text


def test_the_list_of_methods_names_each_with_its_paper():
    shown = " ".join(CliRunner().invoke(app, ["methods"]).stdout.split())
    for entry in catalog():
        assert f" {entry.name} {entry.summary.split()[0]} " in shown
        assert entry.paper in shown
