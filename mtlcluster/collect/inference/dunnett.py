"""Several methods against one reference: Dunnett's simultaneous intervals."""

import math
from functools import lru_cache

import numpy as np

from mtlcluster.collect.inference.difference import Difference, difference, samples_part
from mtlcluster.collect.inference.model import Array, fit

NODES = 160  # of each quadrature; 320 give the same constant within 1e-9
TAIL = 1e-11  # the probability that is cut off on each side


@lru_cache(maxsize=1024)
def dunnett_constant(comparisons: int, df: int, level: float = 0.95) -> float:
    """The c for which all |t_i| stay below c with this probability, of k comparisons with one reference (Dunnett 1955).

    The comparisons have correlation ½: t_i = (x_i − x_0)/(√2·s) with normal x and s = χ_df/√df. Given the common
    x_0 = x and s they are independent, so P(all |t_i| ≤ c) = ∫∫ [Φ(x + √2·c·s) − Φ(x − √2·c·s)]^k φ(x) dx f(s) ds, by
    Gauss–Legendre over x and log s.

    Args:
        comparisons: k, the number of methods that are compared with the reference.
        df: The degrees of freedom of the standard deviation.
        level: The probability.
    """
    return _constant(comparisons, df, level, NODES)


def _constant(comparisons: int, df: int, level: float, nodes: int) -> float:
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, stdtrit

    single, bonferroni = stdtrit(df, 1 - (1 - level) / 2), stdtrit(df, 1 - (1 - level) / (2 * comparisons))
    if comparisons == 1:
        return float(single)
    at, weight = np.polynomial.legendre.leggauss(nodes)
    x = 7.5 * at
    over_x = 7.5 * weight * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    first, last = np.log([chdtri(df, 1 - TAIL) / df, chdtri(df, TAIL) / df]) / 2  # of log s
    log_s = (first + last) / 2 + (last - first) / 2 * at
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    over_s = (last - first) / 2 * weight * np.exp(constant + df * log_s - df / 2 * np.exp(2 * log_s))

    def above(c: float) -> float:
        reach = math.sqrt(2) * c * np.exp(log_s)[:, None]
        inside = (ndtr(x + reach) - ndtr(x - reach)) ** comparisons
        return float(over_s @ inside @ over_x) - level

    return float(brentq(above, single, bonferroni, xtol=1e-10, rtol=1e-12))


def against_reference(
    z: Array, reference: int, samples: Array | None = None, level: float = 0.95
) -> list[Difference | None]:
    """Compares every method with the reference: d ± c·σ·√(2/S), with c from Dunnett and σ from the additive model.

    Args:
        z: The values [M, S], with M ≥ 2 and S ≥ 2.
        reference: The row of the reference.
        samples: By method the bootstrap's standard deviation of its difference from the reference [M], or None.
        level: The probability with which all intervals hold together.

    Returns:
        By method its difference; None for the reference itself.
    """
    model = fit(z)
    comparisons = model.methods - 1
    half = dunnett_constant(comparisons, model.df, level) * model.sigma * math.sqrt(2 / model.seeds)
    return [
        difference(
            float(model.means[m] - model.means[reference]),
            half,
            model.sigma * math.sqrt(2),
            None if samples is None else samples_part(float(samples[m]), comparisons, level),
        )
        if m != reference
        else None
        for m in range(model.methods)
    ]
