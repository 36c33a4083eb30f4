"""The verdict in three to six sentences: what was compared, what is better, and what can't be told."""

import math
from collections.abc import Sequence

from mtlcluster.collect.inference.compare import SEEDS_FOR_A_GROUP, Comparison
from mtlcluster.collect.inference.difference import BETTER, NOT_TESTED, WORSE
from mtlcluster.collect.verdict.baseline import SINGLE_TASK
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.result import MethodResult, Verdict
from mtlcluster.collect.verdict.rows import PLAIN_SUM
from mtlcluster.collect.verdict.words import compared_methods, counted, names, number


def sentences(contest: Contest, verdict: Verdict, compared: Comparison | None) -> list[str]:
    """Three to six sentences.

    Args:
        contest: What is compared.
        verdict: All but its sentences.
        compared: The statistics; None where nothing is compared.
    """
    found = [_chosen(contest, verdict)]
    waiting = [m for m in verdict.methods if m.missing and not m.single]
    if waiting:
        why = waiting[0].missing if len(waiting) == 1 else "their runs have not all ended, or none is done"
        found.append(f"Not compared: {names(m.name for m in waiting)} ({why}).")
    if compared is None or len(compared_methods(verdict)) < 2:
        return [*found, _nothing_compared(contest, verdict), _varied(contest, verdict)]
    found += _against_reference(verdict)
    found += _told_apart(verdict, compared)
    return [*found, _varied(contest, verdict)]


def _chosen(contest: Contest, verdict: Verdict) -> str:
    methods = [m for m in verdict.methods if not m.single]
    if not verdict.tuned:
        are = "is" if len(methods) == 1 else "are"
        settings = counted(len(methods), "setting")
        return f"Nothing was tuned: {settings} of the grid {are} taken as {'it is' if are == 'is' else 'they are'}."
    numbers = sorted({m.trials for m in methods})
    many = f"{numbers[0]} to {numbers[-1]} trials" if len(numbers) > 1 else counted(sum(numbers), "trial")
    seeds = counted(len(contest.rows.tuning_seeds), "tuning seed")
    fresh = counted(len(verdict.seeds), "fresh seed") if verdict.seeds else "fresh seeds"
    then = f"is trained again with {fresh}" if verdict.fresh_seeds else "is compared on the seeds that chose it"
    pruned = sorted({m.pruned for m in methods})
    stopped = f"; {' to '.join(map(str, dict.fromkeys((pruned[0], pruned[-1]))))} stopped early" if any(pruned) else ""
    return (
        f"{counted(len(methods), 'method')}: of each, the setting with the best validation/{verdict.value} among "
        f"{many} ({seeds}{stopped}) {then}."
    )


def _nothing_compared(contest: Contest, verdict: Verdict) -> str:
    if verdict.relative_to:
        return "No two methods can be compared" + ("." if verdict.complete else " yet.")
    to_come = any(not row.ended and (row.single or row.plain_sum) for row in contest.rows.rows)
    if to_come:
        return (
            "No method is scored yet: the values are relative to single-task training or the plain sum, still to come."
        )
    return (
        "No method can be scored: there are neither single-task baselines of all tasks nor the plain sum that the "
        "values could be relative to."
    )


def _against_reference(verdict: Verdict) -> list[str]:
    others = [m for m in compared_methods(verdict) if m.versus_reference]
    if verdict.reference is None:
        return ["There is no plain sum, and report.yaml names no other reference: no method is compared with one."]
    if not others:
        return [f"No method is compared with {_reference(verdict)}."]
    if len(verdict.seeds) < 2:
        return ["With one seed no test is possible: no method can be called better or worse."]
    tested = f"95 %, {counted(len(others), 'comparison')}, {counted(len(verdict.seeds), 'seed')}"
    found = [
        sentence
        for word, listed in ((BETTER, verdict.better), (WORSE, verdict.worse))
        if (sentence := _than_reference(verdict, word, [m for m in others if m.name in listed], tested))
    ]
    if not found and all(m.versus_reference and m.versus_reference.words == NOT_TESTED for m in others):
        return [f"Nothing is tested against {_reference(verdict)}: the seeds change nothing."]
    if not verdict.better:
        found.insert(0, f"No method is found better than {_reference(verdict)} ({tested}).")
    return found


def _than_reference(verdict: Verdict, word: str, which: Sequence[MethodResult], tested: str) -> str:
    if not which:
        return ""
    ends = sorted(which, key=lambda m: abs(m.versus_reference.difference) if m.versus_reference else 0.0)
    if len(which) == 1:
        by = f"by {_size(ends[0])} (simultaneous {tested})"
    else:
        by = f"by {_size(ends[0], named=True)} to {_size(ends[-1], named=True)} (simultaneous {tested})"
    verb = "is" if len(which) == 1 else "are"
    text = f"{names(m.name for m in which)} {verb} {word} than {_reference(verdict)} {by}"
    apart = not verdict.strict or {m.name for m in which} <= {*verdict.best_group}
    if word == BETTER and len(which) > 1 and apart:
        text += "; they are not told apart from each other"
    return text + "."


def _size(method: MethodResult, named: bool = False) -> str:
    """Such as "3.2 points (cagrad, 1.0 to 5.3)": a difference and its interval, without their signs."""
    versus = method.versus_reference
    assert versus is not None
    low, high = (versus.low, versus.high) if versus.difference > 0 else (-versus.high, -versus.low)
    name = f"{method.name}, " if named else ""
    return f"{number(abs(versus.difference))} points ({name}{number(low)} to {number(high)})"


def _told_apart(verdict: Verdict, compared: Comparison) -> list[str]:
    methods = compared_methods(verdict)
    if len(methods) < 2 or math.isnan(verdict.smallest_difference):
        return []
    told = (
        f"With {counted(len(verdict.seeds), 'seed')} differences seen of under {number(verdict.smallest_difference)} "
        "points cannot be told apart"
    )
    p = "" if verdict.p_range is None else f"permutation p = {verdict.p_range:.2g}"
    if len(verdict.seeds) < SEEDS_FOR_A_GROUP:
        return [f"{told}; with fewer than {SEEDS_FOR_A_GROUP} no best group is formed."]
    if not compared.strict:
        more = f"; the lead seen would take {counted(verdict.seeds_needed, 'seed')}" if verdict.seeds_needed else ""
        how = ", ".join(filter(None, [_test(compared), p]))
        return [f"{told}. The best of {len(methods)} methods is told apart from none of the others ({how}){more}."]
    if not verdict.strict:
        return [f"{told}; no best group is formed before all methods are compared."]
    best = max((m for m in methods if m.name in verdict.best_group), key=lambda m: m.z).name
    others = [name for name in verdict.best_group if name != best]
    if not others:
        how = ", ".join(filter(None, [_test(compared), p]))
        return [f"{told}. {best} is told apart from all {len(methods) - 1} others ({how})."]
    are = "is" if len(others) == 1 else "are"
    equal = f"; that all {len(methods)} are equal is rejected ({p})" if p else ""
    text = f"{told}. {best} has the highest mean; {names(others)} {are} not told apart from it ({_test(compared)})"
    return [f"{text}{equal}."]


def _test(compared: Comparison) -> str:
    return "paired t with Holm, 5 %" if compared.test == "paired" else "paired Tukey, 5 %"


def _varied(contest: Contest, verdict: Verdict) -> str:
    halves = [m.versus_reference.half_samples for m in verdict.methods if m.versus_reference]
    error = (
        "the test data's own error is part of the intervals"
        if halves and None not in halves
        else f"the {verdict.data} data's own error is left out"
    )
    text = (
        f"Between seeds the initial weights, the order of the samples and dropout vary; the split, the "
        f"{verdict.data} data and the settings do not ({error})"
    )
    if not verdict.relative_to:
        return f"{text}."
    to = f"tuned {SINGLE_TASK}" if verdict.tuned and verdict.relative_to == SINGLE_TASK else verdict.relative_to
    return f"{text}; points are per cent, relative to {to}, the mean over {counted(len(contest.tasks), 'task')}."


def _reference(verdict: Verdict) -> str:
    return "the plain sum" if verdict.reference == PLAIN_SUM else str(verdict.reference)
