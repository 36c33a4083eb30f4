"""Points of a metric relative to its baseline, by hand."""

import math

import pytest

from mtlcluster.collect.verdict.scores import Scale, points


@pytest.mark.parametrize(
    ("value", "baseline", "direction", "negative", "expected"),
    [
        (1.8, 2.0, "min", False, 10.0),  # an error: relative
        (0.3, 0.0, "min", False, -30.0),  # no error can be relative to 0
        (0.84, 0.8, "max", False, 5.0),  # a score: relative
        (0.06, 0.04, "max", False, 2.0),  # relative to so small a score, it would be 50
        (0.3, 0.2, "max", True, 10.0),  # R² may be negative: relative, it would be 50
        (0.1, -0.2, "max", True, 30.0),
    ],
)
def test_points_are_relative_except_where_that_misleads(value, baseline, direction, negative, expected):
    assert points(value, baseline, direction, negative) == pytest.approx(expected)


def test_a_task_with_two_metrics_counts_once():
    leading = {"depth": {"mae": "min", "rmse": "min"}, "parts": {"accuracy": "max"}}
    scale = Scale("test", leading, {"depth": {"mae": 2.0, "rmse": 4.0}, "parts": {"accuracy": 0.5}})
    values = {"test/depth/mae": 1.0, "test/depth/rmse": 3.0, "test/parts/accuracy": 0.4}
    assert scale.task_values(values) == pytest.approx({"depth": (50 + 25) / 2, "parts": -20})
    assert scale.z(values) == pytest.approx((37.5 - 20) / 2)
    assert math.isnan(scale.z({"test/parts/accuracy": 0.4}))


def test_a_metric_that_can_be_negative_is_known_by_its_name_or_by_its_values():
    baseline = {"a": {"r2": 0.5, "PearsonCorr": 0.5, "gain": 0.5}}
    scale = Scale("test", {"a": dict.fromkeys(baseline["a"], "max")}, baseline, {("a", "gain")})
    values = {f"test/a/{name}": 0.6 for name in baseline["a"]}
    assert scale.task_values(values)["a"] == pytest.approx(10.0)
