"""Sentences that explain the main table, wherever it stands."""

import math

from mtlcluster.collect.verdict.result import Verdict

HALF_WAY = "Half-way: runs are still to come, and this is no verdict yet."


def bold_means(verdict: Verdict) -> str:
    """What bold says; "" where nothing is bold."""
    if not verdict.strict:
        return ""
    how = "paired t with Holm" if verdict.test == "paired" else "paired Tukey"
    return (
        f"Bold: not told apart from the best ({how}, 5 %): 1 in 20 such tables wrongly leaves one out if all are equal."
    )


def intervals_by(verdict: Verdict) -> str:
    """The method of the simultaneous intervals."""
    return "paired t with Holm" if verdict.test == "paired" else "Dunnett"


def about_table(verdict: Verdict) -> str:
    """What the columns are."""
    if not verdict.relative_to:
        return ""
    of = f"the mean over the tasks of how much better their leading metrics on {verdict.data} data are than those of "
    text = f"z is {of}{verdict.relative_to}, in per cent; larger is better, and −z is Δm %."
    if any(m.versus_reference and math.isfinite(m.versus_reference.low) for m in verdict.methods):
        text += (
            f" The intervals hold all at once with 95 % ({intervals_by(verdict)}). P(better) is the estimated "
            "probability that a run is better than the reference's with the same seed."
        )
    return f"{text} ± is the standard deviation over seeds."
