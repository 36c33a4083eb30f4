"""Each method against its paper's formula, written down independently, and the published golden values."""

import numpy as np
import pytest
import torch
from rig.methods import ALL, TASKS, make


def test_pcgrad_golden_value():
    """J = [[-4, 1, 1], [6, 1, 1]] gives (.5848, 3.8012, 3.8012); with two tasks the order does not matter."""
    jacobian = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.float64)
    weights = make("pcgrad", tasks=TASKS[:2])[2].weights(jacobian @ jacobian.T, ALL)
    assert (weights @ jacobian).tolist() == pytest.approx([0.5848, 3.8012, 3.8012], abs=5e-5)


def test_pcgrad_projects_the_vectors_themselves():
    """Algorithm 1 on the gradients, over the same random orders."""
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e6):
        jacobian = rng.normal(size=(3, 8)) * scale
        gradient = make("pcgrad", seed=7)[2]
        weights = gradient.weights(torch.from_numpy(jacobian @ jacobian.T), ALL).numpy()
        orders = torch.Generator().manual_seed(7)
        projected = jacobian.copy()
        for i in range(3):
            for j in torch.randperm(3, generator=orders).tolist():
                inner = projected[i] @ jacobian[j]
                if i != j and inner < 0:
                    projected[i] -= inner / (jacobian[j] @ jacobian[j]) * jacobian[j]
        np.testing.assert_allclose(weights @ jacobian, projected.sum(0), rtol=1e-9)


def test_pcgrad_degenerate_cases_are_finite():
    for jacobian in (torch.zeros(3, 4), torch.ones(3, 4), torch.tensor([[1.0, 0], [-1.0, 0], [0, 0]])):
        gramian = (jacobian @ jacobian.T).double()
        assert make("pcgrad")[2].weights(gramian, ALL).isfinite().all()


def dsg(**options):
    return make({"schedule": {"name": "dsg", **options}})[0]


def test_dsg_stops_a_task_that_no_longer_improves_and_lets_it_go_again():
    schedule = dsg()

    def validate(a):
        falling = 1 / (1 + validate.calls)
        schedule.observe_validation({"a/loss": a, "b/loss": falling, "c/loss": falling})
        validate.calls += 1
        return 0 not in schedule.active(1)  # step 1 is not one at which stopped tasks train

    validate.calls = 0
    assert not validate(1.0)
    assert not validate(0.9995)  # less than 0.1 % better: the first miss
    assert not validate(0.99)  # better again
    assert not validate(0.9899)
    assert validate(0.9898)  # the second miss in a row: stop
    assert list(schedule.active(4)) == [0, 1, 2]
    assert list(schedule.active(5)) == [1, 2]
    assert validate(0.97)  # stopped, its best still improves
    assert validate(0.9747)  # worse than its best by 0.48 %
    assert not validate(0.9749)  # by more than 0.5 %: go
    assert not validate(0.9749)  # and its misses count anew


def test_dsg_with_a_best_of_zero_and_a_metric_that_should_grow():
    schedule = dsg(score="loss", patience=1)
    values = {"a/loss": 0.0, "b/loss": 0.0, "c/loss": 0.0}
    schedule.observe_validation(values)
    schedule.observe_validation({**values, "a/loss": -0.1})
    assert list(schedule.active(1)) == [0]
    with pytest.raises(ValueError, match="task 'c' has no value 'accuracy'"):
        dsg(score="accuracy")


def test_schedules_choose_their_tasks():
    assert list(make("equal")[0].active(5)) == [0, 1, 2]
    robin = make("round_robin")[0]
    assert [list(robin.active(s)) for s in range(4)] == [[0], [1], [2], [0]]
    single = make({"schedule": {"name": "single", "task": "b"}})[0]
    assert list(single.active(9)) == list(single.trained()) == [1]
