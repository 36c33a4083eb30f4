"""Solvers of the small problems that gradient methods have in common, on the Gramian, in float64.

The problems are posed over the *unit* gradients, whose Gramian holds the tasks' cosines. So they do not depend on the
scale of any task's gradient. A is the number of tasks; points and gradients are columns.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
RANK = 1e-6  # eigenvalues below this share of the greatest are noise: gradients are float32


def over_nonzero(gramian: Tensor, rule: Rule) -> Tensor:
    """Applies `rule(cosines, norms)` to the tasks whose gradient is not zero. Returns weights [A], 0 for the others."""
    inner = gramian.numpy()
    kept = inner.diagonal() > 0
    weights = np.zeros(len(inner))
    if kept.any():
        norms = np.sqrt(inner.diagonal()[kept])
        cosines = inner[kept][:, kept] / norms[:, None] / norms
        weights[kept] = rule((cosines + cosines.T) / 2, norms)
    return torch.from_numpy(weights)


def square_root(gramian: np.ndarray) -> np.ndarray:
    """R [A, A] with RᵀR = gramian. Its columns are gradients with these inner products, in A dimensions."""
    values, vectors = np.linalg.eigh(gramian)
    rounding = 4 * len(values) * np.finfo(float).eps * values[-1]
    return (vectors * np.sqrt(np.where(values > rounding, values, 0))).T


def gradients_like(gramian: Tensor) -> np.ndarray:
    """Gradients with this Gramian, in A dimensions: [A, A], one in a column. It is accurate for every length."""
    norms = gramian.diagonal().clamp_min(0).sqrt().numpy()
    lengths = np.where(norms > 0, norms, 1)
    columns: np.ndarray = square_root(gramian.numpy() / lengths[:, None] / lengths) * norms
    return columns


def nonnegative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """argmin over x ≥ 0 of ‖matrix x − target‖, by the active set method of Lawson and Hanson."""
    solution: np.ndarray = nnls(matrix, target, maxiter=100 * matrix.shape[1])[0]
    return solution


def nearest_to_zero(points: np.ndarray) -> np.ndarray:
    """The weights [A] of the point of the convex hull that is nearest to zero: argmin over the simplex of ‖points w‖.

    The minimum of ‖points w‖² + μ²(Σw − 1)² over w ≥ 0 is that point, up to its length, for every μ.

    Args:
        points: [k, A], one in a column.
    """
    norms = np.linalg.norm(points, axis=0)
    if not norms.all():
        of_zeros: np.ndarray = (norms == 0) / np.sum(norms == 0)
        return of_zeros
    ones = norms.min() / norms
    scaled = nonnegative(np.vstack([points / norms, ones]), np.append(np.zeros(len(points)), 1.0))
    weights = scaled * ones
    normalised: np.ndarray = weights / weights.sum()
    return normalised


def equal_cosines(cosines: np.ndarray) -> np.ndarray:
    """x [A] for which Σ x_i u_i has the inner product 1 with every unit gradient u_i: C⁺𝟙, truncated.

    It is zero if no direction has the same cosine, other than 0, with all. If no direction has exactly the same, it is
    the solution of least squares.
    """
    values, vectors = np.linalg.eigh(cosines)
    kept = values > RANK * values[-1]
    along = vectors[:, kept].sum(0)
    if along @ along < RANK * len(values):
        return np.zeros(len(values))
    solution: np.ndarray = vectors[:, kept] @ (along / values[kept])
    return solution


def fair_weights(cosines: np.ndarray, scale: np.ndarray, power: float) -> np.ndarray:
    """x > 0 [A] with (Cx)_i = scale_i x_i^(−power).

    There ½xᵀCx − Σ scale_i φ(x_i), φ' = x^(−power), is least. The problem is strictly convex; a damped Newton method
    solves it. Eigenvalues of C below RANK are lifted to it. So near a Pareto-stationary point, where there is no
    solution, x stays finite and Cx gets small.
    """
    values, vectors = np.linalg.eigh(cosines)
    lifted = (vectors * np.maximum(values, RANK)) @ vectors.T
    x = scale ** (1 / (1 + power))
    for _ in range(200):
        utility = scale * x ** (1 - power)
        pull = x * (lifted @ x) - utility  # in units of x, as is the step: no scale of x is preferred
        hessian = x[:, None] * lifted * x + np.diag(power * utility)
        sizes = np.sqrt(hessian.diagonal())
        step = np.linalg.solve(hessian / sizes[:, None] / sizes, -pull / sizes) / sizes
        size = 1.0
        while True:
            ahead = size * step
            there = x * np.where(ahead > 0, 1 + ahead, 1 / (1 + abs(ahead)))  # stays positive
            slope = (lifted @ there - scale * there**-power) @ (there - x)  # ≤ 0: it has come down, for convexity
            if slope <= 0.1 * abs(pull @ step) or size < 1e-6:
                break
            size /= 2
        x = there
        if np.abs(step).max() < 1e-8:
            break
    solution: np.ndarray = x
    return solution
