"""Each method against its paper's formula, written down independently, and the published golden values."""

import math

import numpy as np
import pytest
import torch

from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method
from mtlcluster.problem import Task

TASKS = [Task.classification("a", 3), Task.binary("b"), Task.regression("c")]
ALL = slice(None)


def make(method, seed=0, tasks=TASKS):
    context = Context(tasks, torch.Generator().manual_seed(seed), total_steps=10)
    return build_method(check_method(method), context, torch.device("cpu"))


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


def test_uncertainty_is_kendalls_loss_and_learns_its_optimum():
    """At a fixed loss L the best s is log(2L) for classification and log L for regression."""
    weighting = make("uncertainty")[1]
    losses = torch.tensor([2.0, 0.5, 8.0])
    assert weighting(losses, ALL).item() == pytest.approx(2.0 + 0.5 + 4.0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(2000):
        optimizer.zero_grad()
        weighting(losses, ALL).backward()
        optimizer.step()
    s = [p.item() for p in weighting.log_variance]
    assert s == pytest.approx([math.log(4.0), math.log(1.0), math.log(8.0)], abs=1e-3)


def test_dwa_follows_the_ratio_of_the_last_two_epochs():
    weighting = make({"weighting": {"name": "dwa", "temperature": 2.0}})[1]
    weighting.observe_epoch(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    assert weighting.weights.tolist() == [1, 1, 1]
    weighting.observe_epoch(torch.tensor([0.5, 2.0, float("nan")], dtype=torch.float64))
    exponentials = np.exp(np.array([0.5, 1.0, 1.0]) / 2)
    np.testing.assert_allclose(weighting.weights.numpy(), 3 * exponentials / exponentials.sum(), rtol=1e-6)


def test_static_names_its_tasks():
    weighting = make({"weighting": {"name": "static", "weights": {"c": 0.1, "a": 2.0}}})[1]
    assert weighting(torch.tensor([1.0, 10.0, 100.0]), ALL).item() == pytest.approx(2 + 10 + 10)
    assert weighting(torch.tensor([10.0, 100.0]), torch.tensor([1, 2])).item() == pytest.approx(20)
    with pytest.raises(ValueError, match=r"there is no task 'left'"):
        make({"weighting": {"name": "static", "weights": {"left": 1.0}}})


def test_gradnorm_over_hundreds_of_steps_against_the_paper():
    """Two tasks whose gradients are differentiated for real, as algorithm 1 says, with an Adam of its own."""
    torch.manual_seed(0)
    last = torch.randn(4, 3)
    targets = [torch.randn(3), 10 * torch.randn(3)]
    tasks = TASKS[1:]
    weighting = make({"weighting": {"name": "gradnorm", "alpha": 1.5, "lr": 0.025}}, tasks=tasks)[1]
    w = torch.ones(2, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.025)
    initial = None
    for step in range(300):
        layer = (last * 0.99**step).requires_grad_()
        losses = torch.stack([((layer.sum(0) - target) ** 2).mean() for target in targets])
        rows = [torch.autograd.grad(loss, layer, retain_graph=True)[0].flatten() for loss in losses]
        weighting.observe_gradients(losses.detach(), torch.stack([row.norm() for row in rows]), ALL)

        initial = losses.detach() if initial is None else initial
        norms = torch.stack([
            torch.autograd.grad(w[i] * losses[i], layer, retain_graph=True, create_graph=True)[0].norm() for i in (0, 1)
        ])  # fmt: skip
        rate = losses.detach() / initial
        goal = (norms.mean() * (rate / rate.mean()) ** 1.5).detach()
        adam.zero_grad()
        (w.grad,) = torch.autograd.grad((norms - goal).abs().sum(), w)
        adam.step()
        with torch.no_grad():
            w.mul_(2 / w.sum())
        assert weighting.weights.tolist() == pytest.approx(w.tolist(), rel=1e-4), step
        assert weighting.weights.sum().item() == pytest.approx(2, rel=1e-6)


def test_gradnorm_leaves_inactive_tasks_alone():
    weighting = make("gradnorm")[1]
    for active in ([0, 1], [0, 2], [0, 1]):
        before = weighting.weights.clone()
        index = torch.tensor(active)
        weighting.observe_gradients(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 0.1]), index)
        idle = ({0, 1, 2} - set(active)).pop()
        assert weighting.weights[idle] == before[idle]
        assert weighting.weights.sum().item() == pytest.approx(3, rel=1e-6)


def dsg(**options):
    return make({"schedule": {"name": "dsg", **options}})[0]


def test_dsg_stops_a_task_that_no_longer_improves_and_lets_it_go_again():
    schedule = dsg()

    def validate(a):
        falling = 1 / (1 + validate.calls)
        schedule.observe_validation({"a/loss": a, "b/loss": falling, "c/loss": falling})
        validate.calls += 1
        return 0 not in schedule.active(1)       # step 1 is not one at which stopped tasks train

    validate.calls = 0
    assert not validate(1.0)
    assert not validate(0.9995)         # less than 0.1 % better: the first miss
    assert not validate(0.99)           # better again
    assert not validate(0.9899)
    assert validate(0.9898)             # the second miss in a row: stop
    assert list(schedule.active(4)) == [0, 1, 2]
    assert list(schedule.active(5)) == [1, 2]
    assert validate(0.97)               # stopped, its best still improves
    assert validate(0.9747)             # worse than its best by 0.48 %
    assert not validate(0.9749)         # by more than 0.5 %: go
    assert not validate(0.9749)         # and its misses count anew


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
