"""Sentences that explain the main table, wherever it stands."""

from mtlcluster.collect.verdict.result import Verdict

BOLD_MEANS = (
    "Bold: not told apart from the best (paired Tukey, 5 %): 1 in 20 such tables wrongly leaves one out if all are "
    "equal."
)


def about_table(verdict: Verdict) -> str:
    """What the columns are."""
    if not verdict.relative_to:
        return ""
    of = f"the mean over the tasks of how much better their leading metrics on {verdict.data} data are than those of "
    text = f"z is {of}{verdict.relative_to}, in per cent; larger is better, and −z is Δm %."
    if any(method.versus_reference for method in verdict.methods):
        text += (
            " The intervals hold all at once with 95 % (Dunnett). P(better) is the estimated probability that a run is "
            "better than the reference's with the same seed."
        )
    return f"{text} ± is the standard deviation over seeds."
