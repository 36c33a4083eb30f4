"""The methods over the Gramian: the published golden values, and the conditions that define each one's solution, over
sizes and scales; A is the number of tasks, rows of a Jacobian are gradients.
"""

import math

import numpy as np
import pytest
import torch

from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import check_method
from mtlcluster.methods.solvers import nonnegative, square_root
from mtlcluster.problem import Task

NAMES = ["aligned_mtl", "cagrad", "config", "fairgrad", "gradvac", "imtl_g", "mgda", "nash_mtl", "pcgrad", "upgrad"]
UNCLIPPED = {"name": "nash_mtl", "max_norm": 1e12}
SIZES = [1, 2, 3, 5, 10, 20]
SCALES = [1e-6, 1.0, 1e6]


TASKS = [Task.regression(f"task {i}") for i in range(max(SIZES))]


def make(gradient, tasks, seed=0):
    context = Context(TASKS[:tasks], torch.Generator().manual_seed(seed), total_steps=10)
    return build_method(check_method({"gradient": gradient}), context, torch.device("cpu"))[2]


def weigh(gradient, jacobian):
    """The weights [A] of a fresh method, which has been given the Gramian."""
    rows = torch.from_numpy(jacobian)
    weights = make(gradient, len(jacobian)).weights(rows @ rows.T, slice(None))
    assert weights.dtype == torch.float64
    assert weights.shape == (len(jacobian),)
    assert weights.isfinite().all()
    return weights.numpy()


def jacobians(sizes=SIZES, wider=5):
    """Gradients with a common part or against each other, at every scale, alike in length or up to 1e6 apart."""
    rng = np.random.default_rng(0)
    for size in sizes:
        for scale in SCALES:
            for common in (0.0, 0.5):
                for spread in (0.0, 3.0):
                    lengths = 10 ** rng.uniform(-spread, spread, size=(size, 1))
                    yield (rng.normal(size=(size, size + wider)) + common) * lengths * scale


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("gradient", "first", "others", "tasks_averaged"),
    [
        ("upgrad", 0.2924, 1.9006, True),
        ("mgda", 0, 1, False),
        ("cagrad", 0.1835, 1.2041, False),
        ("imtl_g", 0.0767, 1.0, False),
        ("aligned_mtl", 0.2133, 0.9673, True),
        ("config", 0.1588, 2.0706, False),
        ("nash_mtl", 0.0542, 0.7061, False),
    ],
)
def test_golden_values(gradient, first, others, tasks_averaged):
    """For J = [[-4, 1, 1], [6, 1, 1]]; those that were published as a mean over the tasks are a sum here."""
    jacobian = np.array([[-4.0, 1, 1], [6, 1, 1]])
    direction = weigh(gradient, jacobian) @ jacobian / (2 if tasks_averaged else 1)
    assert direction.tolist() == pytest.approx([first, others, others], abs=5.1e-5)


def test_upgrads_golden_value_comes_with_a_ridge():
    """What was published, .2929 and 1.9004, is of the Gramian plus 1e-4 of its trace on the diagonal."""
    jacobian = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.float64)
    gramian = jacobian @ jacobian.T
    ridge = 1e-4 * gramian.trace() * torch.eye(2)
    direction = make("upgrad", 2).weights(gramian + ridge, slice(None)) @ jacobian / 2
    assert direction.tolist() == pytest.approx([0.2929, 1.9004, 1.9004], abs=5.1e-5)


def test_mgda_is_the_shortest_convex_combination():
    for jacobian in jacobians():
        weights = weigh("mgda", jacobian)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)
        direction = weights @ jacobian
        lengths = np.linalg.norm(jacobian, axis=1) * np.linalg.norm(direction)
        slack = (jacobian @ direction - direction @ direction) / lengths
        assert slack.min() > -1e-9
        assert np.abs(slack[weights > 0]).max() < 1e-9


@pytest.mark.parametrize("c", [0.0, 0.4, 0.5, 1.0])
def test_cagrad_helps_the_worst_task_most_within_its_ball(c):
    """d stays within c‖g₀‖ of the mean g₀; the weights lie on the simplex, on the tasks that gain least by d."""
    for jacobian in jacobians():
        weights = weigh({"name": "cagrad", "c": c}, jacobian)
        mean = jacobian.mean(0)
        inside = weights - 1 / len(jacobian)
        radius = c * np.linalg.norm(mean)
        assert np.linalg.norm(inside @ jacobian) <= radius * (1 + 1e-9)
        assert inside.min() >= -1e-12
        if inside.sum() > 1e-9:
            assert np.linalg.norm(inside @ jacobian) == pytest.approx(radius)
            gains = jacobian @ (weights @ jacobian)
            least = inside @ gains / inside.sum()
            of_task = np.linalg.norm(jacobian, axis=1) * np.linalg.norm(weights @ jacobian)
            assert ((gains - least) / of_task).min() > -1e-6


def test_upgrad_sums_the_projections_on_the_dual_cone():
    """Projection p of g: no conflict, p − g a nonnegative combination, of those tasks only that p is orthogonal to."""
    for jacobian in jacobians():
        units, norms = unit(jacobian), np.linalg.norm(jacobian, axis=1)
        root = square_root(units @ units.T)
        total = np.zeros_like(norms)
        for i in range(len(jacobian)):
            added = nonnegative(root, -root[:, i])
            projection = units[i] + added @ units
            assert added.min() >= 0
            assert (units @ projection).min() > -1e-9
            assert np.abs(added * (units @ projection)).max() < 1e-9
            total += norms[i] * (np.eye(len(jacobian))[i] + added) / norms
        np.testing.assert_allclose(weigh("upgrad", jacobian), total, rtol=1e-9)


@pytest.mark.parametrize(("gradient", "power"), [
    (UNCLIPPED, 1.0), *(({"name": "fairgrad", "alpha": alpha}, 1 / alpha) for alpha in (0.5, 1.0, 2.0, 10.0))
])  # fmt: skip
def test_nash_and_fairgrad_solve_their_equation(gradient, power):
    for jacobian in jacobians():
        weights = weigh(gradient, jacobian)
        assert weights.min() > 0
        np.testing.assert_allclose(jacobian @ (weights @ jacobian) * weights**power, 1, rtol=1e-6)


def test_nash_of_two_tasks_in_closed_form_and_clipped():
    for jacobian in jacobians(sizes=[2]):
        norms, (first, second) = np.linalg.norm(jacobian, axis=1), unit(jacobian)
        weights = weigh(UNCLIPPED, jacobian)
        np.testing.assert_allclose(weights, 1 / norms / math.sqrt(1 + first @ second), rtol=1e-8)
        assert np.linalg.norm(weights @ jacobian) == pytest.approx(math.sqrt(2))
        assert np.linalg.norm(weigh({"name": "nash_mtl", "max_norm": 0.3}, jacobian) @ jacobian) == pytest.approx(0.3)


def test_config_and_imtl_g_are_impartial():
    for jacobian in jacobians():
        weights = weigh("imtl_g", jacobian)
        projections = unit(jacobian) @ (weights @ jacobian)
        np.testing.assert_allclose(projections, projections[0], rtol=1e-6)
        if abs(weights.sum()) > 0.9:        # else held: its sum comes near 0
            assert weights.sum() == pytest.approx(1)
        assert np.abs(weights).sum() < 1001
        direction = weigh("config", jacobian) @ jacobian
        cosines = unit(jacobian) @ unit(direction)
        np.testing.assert_allclose(cosines, cosines[0], rtol=1e-6)
        assert np.linalg.norm(direction) == pytest.approx((jacobian @ unit(direction)).sum())
    dependent = DEGENERATE["more tasks than dimensions"]
    direction = weigh("config", dependent) @ dependent
    np.testing.assert_allclose(unit(direction), unit(np.linalg.pinv(unit(dependent)).sum(1)), atol=1e-9)
    assert np.linalg.norm(direction) == pytest.approx((dependent @ unit(direction)).sum())


def test_imtl_g_is_held_where_its_weights_sum_to_zero():
    """Unit weights C⁺𝟙 with a negative one, and the lengths that make Σ x_i/‖g_i‖ vanish."""
    units = unit(np.array([[1.0, 1, 0], [1, -1, 0], [1, 0, 0.3]]))
    of_units = np.linalg.solve(units @ units.T, np.ones(3))
    assert np.sign(of_units).tolist() == [1, 1, -1]
    lengths = np.array([1, 1, -of_units[2] / of_units[:2].sum()])
    weights = weigh("imtl_g", units * lengths[:, None])
    assert np.abs(weights).sum() == pytest.approx(1000)


def test_aligned_mtl_is_the_sum_of_the_aligned_gradients():
    """σ_min·UVᵀ of the Jacobian's singular value decomposition, its rows summed."""
    for jacobian in jacobians():
        left, sizes, right = np.linalg.svd(jacobian, full_matrices=False)
        kept = sizes**2 > len(jacobian) * np.finfo(np.float32).eps * sizes[0] ** 2
        expected = (sizes[kept][-1] * left[:, kept] @ right[kept]).sum(0)
        np.testing.assert_allclose(weigh("aligned_mtl", jacobian) @ jacobian, expected, atol=1e-5 * sizes[kept][-1])


def test_gradvac_vaccinates_the_vectors_themselves():
    """Algorithm 1 on the gradients, its running cosines over 40 steps with changing tasks, over the same orders."""
    rng, orders, beta = np.random.default_rng(0), torch.Generator().manual_seed(3), 0.2
    method, rho = make({"name": "gradvac", "beta": beta}, 4, seed=3), np.zeros((4, 4))
    for step in range(40):
        tasks = [[0, 1, 2, 3], [0, 2], [1, 2, 3]][step % 3]
        original = (rng.normal(size=(4, 9)) + 0.3)[tasks] * 10.0 ** (step % 5 - 2)
        changed = original.copy()
        for i in range(len(tasks)):
            for j in torch.randperm(len(tasks), generator=orders).tolist():
                if i == j:
                    continue
                target = rho[tasks[i], tasks[j]]
                length, other = np.linalg.norm(changed[i]), np.linalg.norm(original[j])
                phi = changed[i] @ original[j] / length / other
                if phi < target:
                    sines = math.sqrt(1 - phi**2), math.sqrt(1 - target**2)
                    changed[i] += length * (target * sines[0] - phi * sines[1]) / (other * sines[1]) * original[j]
                    assert unit(changed[i]) @ unit(original[j]) == pytest.approx(target)
                rho[tasks[i], tasks[j]] = (1 - beta) * target + beta * phi
        gramian = torch.from_numpy(original @ original.T)
        active = slice(None) if len(tasks) == 4 else torch.tensor(tasks)
        weights = method.weights(gramian, active).numpy()
        np.testing.assert_allclose(weights @ original, changed.sum(0), rtol=1e-7, atol=1e-9 * np.abs(changed).max())
    np.testing.assert_allclose(method.state_dict()["targets"].numpy(), rho, rtol=1e-9)


@pytest.mark.parametrize("gradient", sorted(set(NAMES) - {"gradvac", "pcgrad"}))
def test_the_order_of_the_tasks_does_not_matter(gradient):
    rng = np.random.default_rng(0)
    for jacobian in jacobians(sizes=[2, 5, 10]):
        order = rng.permutation(len(jacobian))
        left, right = weigh(gradient, jacobian)[order], weigh(gradient, jacobian[order])
        assert np.linalg.norm((left - right) @ jacobian[order]) <= 1e-6 * np.linalg.norm(left @ jacobian[order])


@pytest.mark.parametrize("gradient", NAMES)
def test_scaling(gradient):
    """Gradients s times as long: most directions too; Nash-MTL's not at all, even for a scale per task, FairGrad's for
    α = 2 as s^(−1/3)."""
    exponent = {"nash_mtl": 0.0, "fairgrad": -1 / 3}.get(gradient, 1.0)
    rng = np.random.default_rng(0)
    for jacobian in jacobians(sizes=[2, 5]):
        direction = weigh(gradient, jacobian) @ jacobian
        for scale in (1e-3, 1e3):
            scaled = weigh(gradient, jacobian * scale) @ (jacobian * scale)
            np.testing.assert_allclose(scaled, scale**exponent * direction, atol=1e-6 * np.linalg.norm(scaled))
        if gradient == "nash_mtl":
            rescaled = jacobian * 10 ** rng.uniform(-3, 3, size=(len(jacobian), 1))
            np.testing.assert_allclose(weigh(gradient, rescaled) @ rescaled, direction, atol=1e-6)


@pytest.mark.parametrize("gradient", ["upgrad", "mgda", "config", "nash_mtl", "fairgrad"])
def test_no_conflict_with_any_task(gradient):
    for jacobian in jacobians():
        direction = weigh(gradient, jacobian) @ jacobian
        assert (unit(jacobian) @ unit(direction)).min() > -1e-9


@pytest.mark.parametrize("gradient", NAMES)
def test_one_task_alone(gradient):
    """Plain training; but CAGrad steps 1 + c as far, Nash-MTL by its clipped norm, FairGrad (α = 2) by ‖g‖^(−1/3)."""
    jacobian = np.array([[3.0, 4.0]])
    expected = {"cagrad": 1.5, "nash_mtl": 1 / 5, "fairgrad": 5 ** (-4 / 3)}.get(gradient, 1.0)
    assert weigh(gradient, jacobian).tolist() == pytest.approx([expected])


DEGENERATE = {
    "all zero": np.zeros((3, 4)),
    "one zero": np.array([[1.0, 2, 0], [0, 0, 0], [-1, 0, 1]]),
    "parallel": np.array([[1.0, 2, 0], [2, 4, 0], [1e-3, 2e-3, 0]]),
    "opposite": np.array([[1.0, 2, 0], [-1, -2, 0]]),
    "opposite, apart": np.array([[1.0, 2, 0], [-1e4, -2e4, 0]]),
    "opposite and a third": np.array([[1.0, 0], [-1, 0], [0, 1]]),
    "more tasks than dimensions": np.random.default_rng(0).normal(size=(7, 3)),
    "stationary": np.array([[1.0, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]),
    "stationary, uneven": np.array([[1.0, 0], [-3, 1], [-1, -2]]),
    "a thousandth from opposite": np.array([[1.0, 0], [-1, 1e-3]]),
}


@pytest.mark.parametrize("gradient", NAMES)
def test_degenerate_gradients_give_a_finite_direction(gradient):
    """Also from a Gramian that was rounded to float32."""
    for name, jacobian in DEGENERATE.items():
        for scale in SCALES:
            scaled = jacobian * scale
            rounded = torch.from_numpy(scaled).float()
            from_rounded = make(gradient, len(scaled)).weights((rounded @ rounded.T).double(), slice(None))
            longest = max(np.linalg.norm(scaled, axis=1))
            unbounded = gradient == "fairgrad"          # grows as gradients vanish
            for weights in (weigh(gradient, scaled), from_rounded.numpy()):
                length = np.linalg.norm(weights @ scaled)
                assert np.isfinite(length), (name, scale)
                assert unbounded or length <= (1.001 if gradient == "nash_mtl" else 1000 * longest), (name, scale)


@pytest.mark.parametrize("gradient", sorted(set(NAMES) - {"gradvac"}))
def test_a_zero_gradient_and_pareto_stationary_points(gradient):
    """A zero gradient leaves the others' direction alone, but for MGDA, which stands still, and the mean of CAGrad;
    gradients that cancel give a direction near zero.
    """
    jacobian = np.array([[1.0, 2, 0], [0, 0, 0], [-1, 0, 1]])
    if gradient == "mgda":
        assert np.linalg.norm(weigh(gradient, jacobian) @ jacobian) == 0
    elif gradient != "cagrad":
        others = jacobian[[0, 2]]
        np.testing.assert_allclose(weigh(gradient, jacobian) @ jacobian, weigh(gradient, others) @ others, rtol=1e-9)
    if gradient not in {"pcgrad", "aligned_mtl"}:       # which may go on
        for name in ("opposite", "stationary"):
            assert np.linalg.norm(weigh(gradient, DEGENERATE[name]) @ DEGENERATE[name]) < 1e-6
