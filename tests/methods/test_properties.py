"""What each gradient method promises, over Jacobians that hypothesis looks for. A new method has to enter the table."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rig.methods import make_gradient

from mtlcluster.methods.catalog import names


@dataclass(frozen=True)
class Promise:
    """permutes: the order of the tasks does not change the direction. degree: of the direction in the gradients' scale;
    None: it is not homogeneous. agrees: no conflict with any task. alone: the first direction for a single task, as a
    multiple of its gradient of norm 5. rests: gradients of one length that cancel give none. without_zero: a task whose
    gradient is zero might as well not be there. bound: of the direction's length, in the longest gradient's to the
    degree. options: what to test it with.
    """

    permutes: bool = True
    degree: float | None = 1.0
    agrees: bool = False
    alone: float = 1.0
    rests: bool = True
    without_zero: bool = True
    bound: float | None = 1000.0
    options: dict[str, Any] = field(default_factory=dict)


PROMISES = {
    "aligned_mtl": Promise(),
    "cagrad": Promise(alone=1.5, without_zero=False),  # 1 + c; its g₀ is a mean
    "config": Promise(agrees=True),
    "db_mtl": Promise(alone=0.1),  # 1 − beta: smoothed from zero
    "fairgrad": Promise(degree=-1 / 3, agrees=True, alone=5 ** (-4 / 3), bound=None),  # for alpha = 2
    "graddrop": Promise(rests=False),
    "gradvac": Promise(permutes=False, rests=False),
    "imtl_g": Promise(),
    "mgda": Promise(agrees=True, without_zero=False),  # it stands still
    "moco": Promise(degree=None, alone=0.5, without_zero=False, bound=1.0),  # beta; Σλ = 1
    "nash_mtl": Promise(degree=0.0, agrees=True, alone=1 / 5, bound=1.001),  # max_norm = 1
    "pcgrad": Promise(permutes=False, rests=False),
    "sum": Promise(),
    "torchjd": Promise(without_zero=False, options={"aggregator": "Mean"}),
    "upgrad": Promise(agrees=True),
}

few = settings(max_examples=25, deadline=None, derandomize=True, database=None,
               suppress_health_check=[HealthCheck.differing_executors])  # fmt: skip
every_method = pytest.mark.parametrize("name", sorted(PROMISES))


def promising(**asked):
    """Every method whose promise is so."""
    chosen = [name for name, promise in PROMISES.items() if all(getattr(promise, k) == v for k, v in asked.items())]
    return pytest.mark.parametrize("name", sorted(chosen))


@st.composite
def conditioned(draw, least=1):
    """Gradients with a common part or without, at any scale, alike in length or far apart."""
    tasks = draw(st.integers(least, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = 10 ** rng.uniform(-1, 1, size=(tasks, 1)) ** draw(st.sampled_from([0.0, 1.0, 3.0]))
    scale = 10.0 ** draw(st.integers(-6, 6))
    return (rng.normal(size=(tasks, tasks + 5)) + draw(st.sampled_from([0.0, 0.5]))) * lengths * scale


@st.composite
def degenerate(draw):
    """Small whole numbers: zeros, parallel, opposite, dependent and Pareto-stationary gradients come of themselves."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return draw(arrays(np.float64, shape, elements=st.integers(-2, 2).map(float))) * 10.0 ** draw(st.integers(-6, 6))


def first_direction(name, jacobian, rounded=False):
    """Of a fresh method. rounded: all that it sees is of gradients in float32, as in training."""
    method = make_gradient({"name": name, **PROMISES[name].options}, len(jacobian))
    rows = torch.from_numpy(jacobian)
    rows = rows.float() if rounded else rows
    if method.needs == "nothing":
        return rows.sum(0).numpy()
    if method.needs == "gramian":
        return (method.weights((rows @ rows.T).double(), slice(None)).to(rows) @ rows).numpy()
    return method.direction(rows.clone(), slice(None)).numpy()


def length(vector):
    return np.linalg.norm(vector)


def test_every_method_is_in_the_table():
    assert set(PROMISES) == set(names("gradient"))


@promising(permutes=True)
@few
@given(jacobian=conditioned(least=2), seed=st.integers(0, 99))
def test_the_order_of_the_tasks_does_not_matter(name, jacobian, seed):
    direction = first_direction(name, jacobian)
    permuted = first_direction(name, np.random.default_rng(seed).permutation(jacobian))
    assert length(permuted - direction) <= 1e-6 * length(direction)


@pytest.mark.parametrize("name", sorted(name for name, promise in PROMISES.items() if promise.degree is not None))
@few
@given(jacobian=conditioned(), exponent=st.integers(-3, 3))
def test_how_the_direction_scales(name, jacobian, exponent):
    direction = first_direction(name, jacobian)
    scaled = first_direction(name, jacobian * 10.0**exponent)
    assert length(scaled - 10.0 ** (exponent * PROMISES[name].degree) * direction) <= 1e-6 * length(scaled)


@promising(agrees=True)
@few
@given(jacobian=conditioned())
def test_no_conflict_with_any_task(name, jacobian):
    direction = first_direction(name, jacobian)
    assert (jacobian @ direction / np.linalg.norm(jacobian, axis=1)).min() >= -1e-9 * length(direction)


@every_method
def test_one_task_alone(name):
    gradient = np.array([[3.0, 0.0, -4.0]])
    np.testing.assert_allclose(first_direction(name, gradient), PROMISES[name].alone * gradient[0], rtol=1e-12)


@every_method
@few
@given(jacobian=degenerate(), rounded=st.booleans())
@example(jacobian=np.zeros((3, 4)), rounded=False)
@example(jacobian=np.array([[1.0, 2, 0], [0, 0, 0], [-1, 0, 1]]), rounded=False)
@example(jacobian=np.array([[1.0, 2, 0], [2, 4, 0], [1e-3, 2e-3, 0]]), rounded=True)
@example(jacobian=np.array([[1.0, 2, 0], [-1, -2, 0]]), rounded=True)
@example(jacobian=np.array([[1.0, 2, 0], [-1e4, -2e4, 0]]), rounded=False)
@example(jacobian=np.array([[1.0, 0], [-1, 0], [0, 1]]), rounded=False)
@example(jacobian=np.array([[1.0, 0], [-1, 1e-3]]), rounded=True)
@example(jacobian=np.random.default_rng(0).normal(size=(7, 3)), rounded=True)
def test_degenerate_gradients_give_a_finite_direction(name, jacobian, rounded):
    direction, promise = first_direction(name, jacobian, rounded), PROMISES[name]
    assert np.isfinite(direction).all()
    if promise.bound is not None:
        longest = max(length(gradient) for gradient in jacobian)
        assert length(direction) <= promise.bound * longest ** (1.0 if promise.degree is None else promise.degree)


@promising(rests=True)
@pytest.mark.parametrize("angles", [[0, 180], [0, 120, 240], [0, 72, 144, 216, 288]], ids=len)
def test_gradients_that_cancel_give_none(name, angles):
    radians = np.deg2rad(angles)
    assert length(first_direction(name, np.stack([np.cos(radians), np.sin(radians)], axis=1))) < 1e-6


@promising(without_zero=True)
@few
@given(jacobian=conditioned(), place=st.integers(0, 8))
def test_a_task_without_a_gradient_might_as_well_not_be_there(name, jacobian, place):
    if PROMISES[name].permutes or len(jacobian) <= 2:  # else other orders are drawn
        direction = first_direction(name, jacobian)
        with_zero = first_direction(name, np.insert(jacobian, min(place, len(jacobian)), 0.0, axis=0))
        assert length(with_zero - direction) <= 1e-6 * length(direction)


@few
@given(jacobian=degenerate())
def test_mgda_stands_still_where_a_task_has_no_gradient(jacobian):
    assert not first_direction("mgda", np.vstack([jacobian, np.zeros(jacobian.shape[1])])).any()
