"""The comparison of methods as a whole: which test is used when, and what may be said."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtlcluster.collect.inference import dunnett, paired
from mtlcluster.collect.inference.difference import NOT_TESTED, Difference, untested, words
from mtlcluster.collect.inference.model import Array, fit, noisy, seeds_needed, smallest_difference
from mtlcluster.collect.inference.tukey import BestGroup, best_group

SEEDS_FOR_A_GROUP = 3  # with fewer, nothing is shown as best
SEEDS_FOR_PAIRED = 5  # with fewer, a paired t-test can tell hardly anything


@dataclass(frozen=True)
class Comparison:
    """What can be said of some methods. Methods are rows of z.

    Attributes:
        means: The mean of each method [M].
        test: "pooled" (Dunnett and Tukey), "paired" (paired t with Holm), or "none".
        differences: By method its difference from the reference; None for the reference and without one.
        words: By method the word for its difference; None likewise.
        best_group: The methods that are not told apart from the best; all where none is told apart.
        p_range: The p-value of the permutation test that all methods are equal; None where it is left out.
        sigma: The residual standard deviation; NaN with one method or one seed.
        smallest_difference: The smallest difference of two methods that these seeds could tell; NaN without a test.
        noisy: The methods that are much noisier than the others.
        level: One minus the probability of any false alarm.
    """

    means: Array
    test: Literal["pooled", "paired", "none"]
    differences: list[Difference | None]
    words: list[str | None]
    best_group: list[int]
    p_range: float | None
    sigma: float
    smallest_difference: float
    noisy: list[int]
    level: float

    @property
    def strict(self) -> bool:
        """True if the best group leaves out a method. Only then it may be shown in bold."""
        return len(self.best_group) < len(self.means)

    def seeds_needed(self) -> int | None:
        """How many seeds the difference between the two best would take. None without a test, or if too many."""
        if self.test == "none":
            return None
        second, best = np.sort(self.means)[-2:]
        return seeds_needed(float(best - second), self.sigma, len(self.means), self.level)


def compare(
    z: Array, reference: int | None, delta: float, samples: Array | None = None, level: float = 0.95
) -> Comparison:
    """Compares methods with a reference, and with the best among them.

    - With one seed, one method, or no residual at all (the seed changes nothing but a part common to all), no test.
    - With two seeds intervals, but no best group.
    - Where a method is noisy and there are SEEDS_FOR_PAIRED seeds, paired t with Holm; else Dunnett and Tukey.

    Args:
        z: The values [M, S].
        reference: The row of the reference, or None: then there are no differences.
        delta: δ, what is too small to matter, in the unit of z.
        samples: By method the bootstrap's standard deviation of its difference from the reference [M], or None.
        level: One minus the probability of any false alarm, for the intervals and for the best group each.
    """
    model = fit(z) if min(z.shape) > 1 else None
    if model is None or model.sigma == 0:
        return _untested(z, reference, 0.0 if model else math.nan, level)
    loud = noisy(z)
    by_pairs = bool(loud) and model.seeds >= SEEDS_FOR_PAIRED
    against = paired.against_reference if by_pairs else dunnett.against_reference
    everyone = list(range(model.methods))
    found: list[Difference | None] = (
        [None for _ in everyone] if reference is None else against(z, reference, samples, level)
    )
    group = BestGroup(paired.best_members(z, level), None) if by_pairs else best_group(z, level)
    return Comparison(
        model.means,
        "paired" if by_pairs else "pooled",
        found,
        [words(one, delta) if one else None for one in found],
        group.members if model.seeds >= SEEDS_FOR_A_GROUP else everyone,
        group.p_range,
        model.sigma,
        smallest_difference(model, level),
        loud,
        level,
    )


def compare_tasks(
    values: Sequence[Array], reference: int | None, delta: float, samples: Sequence[Array] | None = None
) -> list[Comparison]:
    """Compares the methods on every task by itself, at the level 0.05/T: any false alarm at all in at most 5 %.

    Args:
        values: The task values of each task [T] of [M, S].
        reference: The row of the reference, or None.
        delta: δ, in points.
        samples: As in `compare`, for each task.
    """
    level = 1 - 0.05 / len(values)
    return [compare(z, reference, delta, None if samples is None else samples[t], level) for t, z in enumerate(values)]


def _untested(z: Array, reference: int | None, sigma: float, level: float) -> Comparison:
    means = z.mean(axis=1)
    everyone = range(len(z))
    found = [None if reference in (None, m) else untested(float(means[m] - means[reference])) for m in everyone]
    said = [NOT_TESTED if one else None for one in found]
    return Comparison(means, "none", found, said, [*everyone], None, sigma, math.nan, [], level)
