"""Gradient methods: the published golden values, the conditions that define each one's solution, over sizes and scales,
and those that smooth against the papers' equations; A is the number of tasks, rows of a Jacobian are gradients. What
several methods promise alike is in test_properties.py.
"""

import math

import numpy as np
import pytest
import torch
from rig.methods import make_gradient

from mtlcluster.methods.catalog import check_method
from mtlcluster.methods.gradients import graddrop
from mtlcluster.methods.solvers import nonnegative, square_root

UNCLIPPED = {"name": "nash_mtl", "max_norm": 1e12}
SIZES = [1, 2, 3, 5, 10, 20]
SCALES = [1e-6, 1.0, 1e6]


def weigh(gradient, jacobian):
    """The weights [A] of a fresh method, which has been given the Gramian."""
    rows = torch.from_numpy(jacobian)
    weights = make_gradient(gradient, len(jacobian)).weights(rows @ rows.T, slice(None))
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
    direction = make_gradient("upgrad", 2).weights(gramian + ridge, slice(None)) @ jacobian / 2
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
        if abs(weights.sum()) > 0.9:  # else held: its sum comes near 0
            assert weights.sum() == pytest.approx(1)
        assert np.abs(weights).sum() < 1001
        direction = weigh("config", jacobian) @ jacobian
        cosines = unit(jacobian) @ unit(direction)
        np.testing.assert_allclose(cosines, cosines[0], rtol=1e-6)
        assert np.linalg.norm(direction) == pytest.approx((jacobian @ unit(direction)).sum())
    dependent = np.random.default_rng(0).normal(size=(7, 3))
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
    method, rho = make_gradient({"name": "gradvac", "beta": beta}, 4, seed=3), np.zeros((4, 4))
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


def test_no_scale_of_any_task_changes_nash_mtl():
    rng = np.random.default_rng(0)
    for jacobian in jacobians(sizes=[2, 5]):
        rescaled = jacobian * 10 ** rng.uniform(-3, 3, size=(len(jacobian), 1))
        expected = weigh("nash_mtl", jacobian) @ jacobian
        np.testing.assert_allclose(weigh("nash_mtl", rescaled) @ rescaled, expected, atol=1e-6)


# Over the gradients themselves ----------------------------------------------------------------------------------------


def stream(steps, tasks=3, width=7):
    """For each step the tasks that train, as the loop names them, and their gradients, noise about drifting means."""
    rng = np.random.default_rng(0)
    means, lengths = rng.normal(size=(tasks, width)), 10 ** rng.uniform(-1, 0.5, size=(tasks, 1))
    for step in range(steps):
        means += 0.1 * rng.normal(size=means.shape)
        chosen = [[0, 1, 2], [0, 1, 2], [0, 2], [1]][step % 4]
        active = slice(None) if len(chosen) == tasks else torch.tensor(chosen)
        yield chosen, active, ((means + rng.normal(size=means.shape)) * lengths)[chosen]


def db_mtl_by_the_paper(beta):
    smoothed = np.zeros((3, 7))

    def step(chosen, gradients):
        directions, lengths = [], []
        for task, gradient in zip(chosen, gradients, strict=True):
            smoothed[task] = beta * smoothed[task] + (1 - beta) * gradient
            lengths.append(math.sqrt(sum(x * x for x in smoothed[task])))
            directions.append(smoothed[task] / lengths[-1])
        return max(lengths) * np.sum(directions, axis=0)

    return step


def moco_by_the_paper(beta, gamma, rho, decay):
    y, shares, steps = np.zeros((3, 7)), np.full(3, 1 / 3), np.zeros(3)

    def step(chosen, gradients):
        for task, gradient in zip(chosen, gradients, strict=True):
            steps[task] += 1
            y[task] -= beta / steps[task] ** decay * (y[task] - gradient)
        total = sum(shares[task] for task in chosen)
        relative = np.array([shares[task] / total for task in chosen])
        inner = np.array([[y[i] @ y[j] + (rho if i == j else 0) for j in chosen] for i in chosen])
        exponentials = np.exp(relative - gamma / max(steps[task] for task in chosen) ** decay * inner @ relative)
        relative = exponentials / exponentials.sum()
        shares[chosen] = total * relative
        return sum(share * y[task] for share, task in zip(relative, chosen, strict=True))

    return step


SMOOTHING = [
    ({"name": "db_mtl"}, db_mtl_by_the_paper(0.9)),
    ({"name": "db_mtl", "beta": 0.0}, db_mtl_by_the_paper(0.0)),
    ({"name": "moco"}, moco_by_the_paper(0.5, 0.1, 0.0, 0.5)),
    ({"name": "moco", "beta": 0.2, "gamma": 0.3, "rho": 0.7, "decay": 0.0}, moco_by_the_paper(0.2, 0.3, 0.7, 0.0)),
]


@pytest.mark.parametrize(("gradient", "by_the_paper"), SMOOTHING, ids=[str(gradient) for gradient, _ in SMOOTHING])
def test_what_smooths_over_hundreds_of_steps_with_changing_tasks(gradient, by_the_paper):
    method = make_gradient(gradient, 3)
    for chosen, active, gradients in stream(300):
        found = method.direction(torch.from_numpy(gradients), active)
        np.testing.assert_allclose(found.numpy(), by_the_paper(chosen, gradients), rtol=1e-9)


@pytest.mark.parametrize("gradient", ["graddrop", "db_mtl", {"name": "db_mtl", "beta": 0.0}, "moco"], ids=str)
def test_it_goes_on_exactly_after_a_checkpoint(gradient, tmp_path):
    """A fresh object of the same run, which has not seen how many parameters there are; the generator is the run's."""
    whole, resumed, steps = make_gradient(gradient, 3), make_gradient(gradient, 3), list(stream(40))
    for _, active, gradients in steps[:20]:
        whole.direction(torch.from_numpy(gradients).float(), active)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.context.generator.set_state(whole.context.generator.get_state())
    for _, active, gradients in steps[20:]:
        expected = whole.direction(torch.from_numpy(gradients).float(), active)
        assert torch.equal(resumed.direction(torch.from_numpy(gradients).float(), active), expected)


def test_db_mtl_takes_the_weighting_of_its_paper_and_keeps_nothing_without_smoothing():
    assert check_method("db_mtl")["weighting"]["name"] == "scale_invariant"
    assert not make_gradient({"name": "db_mtl", "beta": 0.0}, 3).state_dict()
    with pytest.raises(ValueError, match="beta = 1 never looks at a gradient"):
        make_gradient({"name": "db_mtl", "beta": 1.0}, 3)


def test_graddrop_keeps_one_sign_by_how_much_the_gradients_agree(monkeypatch):
    """Over many draws the positive part is kept in P of them, coordinate by coordinate and chunk by chunk."""
    monkeypatch.setattr(graddrop, "COLUMNS", 4)
    jacobian = torch.tensor([[3.0, -1.0, 0.0, 1.0, -2.0], [-1.0, -2.0, 0.0, 0.5, 1.0], [0.0, -0.5, 0.0, 0.0, 1.0]])
    positive, negative = jacobian.clamp_min(0).sum(0), jacobian.clamp_max(0).sum(0)
    method = make_gradient("graddrop", 3)
    draws = torch.stack([method.direction(jacobian.clone(), slice(None)) for _ in range(4000)])
    assert bool(((draws == positive) | (draws == negative)).all())
    purity = 0.5 * (1 + jacobian.sum(0) / jacobian.abs().sum(0))
    kept = (draws == positive).double().mean(0)
    assert kept[[0, 1, 3, 4]].tolist() == pytest.approx(purity[[0, 1, 3, 4]].tolist(), abs=0.03)
    assert kept[1] == 0  # where all agree there is nothing to draw
    assert kept[3] == 1
    assert not draws[:, 2].any()
    assert torch.corrcoef(draws[:, [0, 4]].T)[0, 1].abs() < 0.06  # of two chunks
    some = make_gradient({"name": "graddrop", "leak": 0.25}, 3).direction(jacobian.clone(), slice(None))
    assert bool(((some == positive + 0.25 * negative) | (some == negative + 0.25 * positive)).all())


def test_graddrop_draws_alike_wherever_the_runs_generator_is_the_same():
    jacobian = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 100)))
    first, again, other = (
        make_gradient("graddrop", 3),
        make_gradient("graddrop", 3),
        make_gradient("graddrop", 3, seed=1),
    )
    torch.manual_seed(0)
    expected = [first.direction(jacobian.clone(), slice(None)) for _ in range(2)]
    torch.manual_seed(1)  # torch's own generator is not asked
    assert all(torch.equal(again.direction(jacobian.clone(), slice(None)), direction) for direction in expected)
    assert not torch.equal(*expected)
    assert not torch.equal(other.direction(jacobian.clone(), slice(None)), expected[0])
