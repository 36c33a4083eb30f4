"""A method's difference from the reference, and the word for it."""

import math
from dataclasses import dataclass
from statistics import NormalDist

BETTER, WORSE, SAME, NOT_TOLD_APART, NOT_TESTED = "better", "worse", "the same within δ", "not told apart", "not tested"
CLEARLY = 0.75  # the probability that a run is better, above which a difference matters (Bouthillier et al. 2021)


@dataclass(frozen=True)
class Difference:
    """A method compared with the reference, in the unit of z; a positive difference is better than the reference.

    Attributes:
        mean: The mean difference over the seeds.
        low, high: The interval, simultaneous over all comparisons; NaN where nothing can be tested.
        half_seeds: The seeds' part of half the interval.
        half_samples: The part of the test data's own error; None where it is left out.
        p_better: The estimated probability that a run of the method is better than the reference's with the same seed.
    """

    mean: float
    low: float
    high: float
    half_seeds: float
    half_samples: float | None
    p_better: float


def difference(mean: float, half_seeds: float, paired_sd: float, half_samples: float | None) -> Difference:
    """Joins the two errors: mean ± √(half_seeds² + half_samples²).

    Args:
        mean: The mean difference over the seeds.
        half_seeds: Half of the seeds' interval.
        paired_sd: The standard deviation of the difference of two runs with the same seed.
        half_samples: Half of the samples' interval, see `samples_part`.
    """
    half = math.hypot(half_seeds, half_samples or 0.0)
    return Difference(mean, mean - half, mean + half, half_seeds, half_samples, p_better(mean, paired_sd))


def untested(mean: float) -> Difference:
    """A difference of which only the mean is known."""
    return Difference(mean, math.nan, math.nan, math.nan, None, math.nan)


def p_better(mean: float, paired_sd: float) -> float:
    """The probability that a run is better than another with the same seed: Φ(mean / sd) of normal differences.

    P(A > B) of Bouthillier et al. 2021, here from the model instead of from counts, which five seeds give only in
    fifths.
    """
    if paired_sd == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return NormalDist().cdf(mean / paired_sd)


def samples_part(sd: float, comparisons: int, level: float = 0.95) -> float:
    """Half of the interval from the test data's own error: the normal quantile at (1 − level)/(2·comparisons) times sd.

    Bonferroni's correction, since the bootstraps' correlation is not known.

    Args:
        sd: The bootstrap's standard deviation of the seed-averaged difference.
        comparisons: M − 1.
        level: One minus the probability of any false alarm.
    """
    return NormalDist().inv_cdf(1 - (1 - level) / (2 * comparisons)) * sd


def words(found: Difference, delta: float) -> str:
    """The word for a difference.

    An interval inside ±δ is "the same within δ", also where it leaves out 0: what is smaller than δ does not matter
    (equivalence, Schuirmann 1987). "better" takes an interval that leaves out 0 and a probability above CLEARLY that
    a run is better; "worse" the same on the other side.

    Args:
        found: The difference.
        delta: δ, what is too small to matter.
    """
    if math.isnan(found.low):
        return NOT_TESTED
    if -delta < found.low and found.high < delta:
        return SAME
    if found.low > 0 and found.p_better > CLEARLY:
        return BETTER
    if found.high < 0 and found.p_better < 1 - CLEARLY:
        return WORSE
    return NOT_TOLD_APART
