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
        reasons = dict.fromkeys(m.missing for m in waiting)
        why = next(iter(reasons)) if len(waiting) == 1 else "their runs have not all ended, or none is done"
        found.append(f"Not compared: {names(m.name for m in waiting)} ({why}).")
    if compared is None:
        return [*found, _nothing_compared(verdict), _varied(contest, verdict)]
    found += _against_reference(verdict)
    found += _told_apart(verdict, compared)
    return [*found, _varied(contest, verdict)]


def _chosen(contest: Contest, verdict: Verdict) -> str:
    compared = len(compared_methods(verdict))
    if not verdict.tuned:
        return f"Nothing was tuned: {counted(compared, 'setting')} of the grid are compared as they are, each a row."
    numbers = sorted({m.trials for m in verdict.methods if not m.single})
    many = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}" if numbers else "0"
    seeds = counted(len(contest.rows.tuning_seeds), "tuning seed")
    then = (
        f"trained again with {counted(len(verdict.seeds), 'fresh seed')}"
        if verdict.fresh_seeds
        else "compared on the seeds it was chosen by"
    )
    return (
        f"{counted(compared, 'method')}: of each, the setting with the best validation/{verdict.value} among {many} "
        f"trials ({seeds}) is {then}."
    )


def _nothing_compared(verdict: Verdict) -> str:
    if not verdict.relative_to:
        return (
            "No method can be scored: there are neither single-task baselines of all tasks nor the plain sum that the "
            "values could be relative to."
        )
    return "No two methods are compared yet."


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
    sizes = sorted(abs(m.versus_reference.difference) for m in which if m.versus_reference)
    low, high = number(sizes[0]), number(sizes[-1])
    by = f"{low} to {high}" if low != high else low
    verb = "is" if len(which) == 1 else "are"
    text = f"{names(m.name for m in which)} {verb} {word} than {_reference(verdict)} by {by} points ({tested})"
    apart = not verdict.strict or {m.name for m in which} <= {*verdict.best_group}
    if word == BETTER and len(which) > 1 and apart:
        text += "; they are not told apart from each other"
    return text + "."


def _told_apart(verdict: Verdict, compared: Comparison) -> list[str]:
    methods = compared_methods(verdict)
    if len(methods) < 2 or math.isnan(verdict.smallest_difference):
        return []
    told = (
        f"With {counted(len(verdict.seeds), 'seed')} differences under {number(verdict.smallest_difference)} points "
        "cannot be told apart"
    )
    p = "" if verdict.p_range is None else f"p = {verdict.p_range:.2g}"
    if len(verdict.seeds) < SEEDS_FOR_A_GROUP:
        return [f"{told}; with fewer than {SEEDS_FOR_A_GROUP} no best group is formed."]
    if not compared.strict:
        more = f"; the lead seen would take {counted(verdict.seeds_needed, 'seed')}" if verdict.seeds_needed else ""
        return [f"{told}. Among {len(methods)} methods none was found{f' ({p})' if p else ''}{more}."]
    if not verdict.strict:
        return [f"{told}; no best group is formed before all methods are compared."]
    group, how = names(verdict.best_group), ", ".join(filter(None, [_test(compared), p]))
    if len(verdict.best_group) == 1:
        return [f"{told}. {group} is told apart from all {len(methods) - 1} others ({how})."]
    return [f"{told}. Not told apart from the best of {len(methods)}: {group} ({how})."]


def _test(compared: Comparison) -> str:
    return "paired t with Holm, 5 %" if compared.test == "paired" else "paired Tukey, 5 %"


def _varied(contest: Contest, verdict: Verdict) -> str:
    halves = [m.versus_reference.half_samples for m in verdict.methods if m.versus_reference]
    error = (
        "the test data's own error is part of the intervals"
        if halves and None not in halves
        else f"the {verdict.data} data's own error is left out"
    )
    unit = (
        "points are per cent of the single-task baselines"
        if verdict.relative_to == SINGLE_TASK
        else f"points are per cent, relative to {verdict.relative_to}"
        if verdict.relative_to
        else "there are no points"
    )
    return (
        f"Between seeds the initial weights, the order of the samples and dropout varied, the split and the "
        f"{verdict.data} data did not ({error}); {unit}, averaged over {counted(len(contest.tasks), 'task')}."
    )


def _reference(verdict: Verdict) -> str:
    return "the plain sum" if verdict.reference == PLAIN_SUM else str(verdict.reference)
