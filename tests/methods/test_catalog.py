"""What a configuration may say of its method, and what it is told when it is wrong."""

import subprocess
import sys

import pytest

from mtlcluster.methods.catalog import catalog, check_method, method_label, sparse_method


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
