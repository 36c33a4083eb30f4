"""The verdict in words: what was compared, what is better, what can't be told, and what is missing."""

import math
from collections.abc import Iterable, Sequence

from mtlcluster.collect.inference.compare import SEEDS_FOR_A_GROUP, SEEDS_FOR_PAIRED, Comparison
from mtlcluster.collect.verdict.baseline import SINGLE_TASK
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.front import ENOUGH
from mtlcluster.collect.verdict.result import MethodResult, Verdict

NAMED = 6  # names in a sentence


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


def warnings(contest: Contest, verdict: Verdict, compared: Comparison | None) -> list[str]:
    """What limits the verdict, one sentence each."""
    methods = [m for m in verdict.methods if not m.single]
    found = [contest.report.note] if contest.report.note else []
    if verdict.tuned and not verdict.fresh_seeds:
        found.append(
            "Tuned and tested on the same seeds: the chosen settings look better than they are. Add "
            "confirm: {seeds: 5} to the grid."
        )
    found += [
        f"{m.name}: {len(m.worst_put_in)} of {m.n + len(m.worst_put_in)} runs failed; the worst z of any finished run "
        "with the same seed is put in for each."
        for m in methods
        if m.worst_put_in
    ]
    if compared:
        loud = [m.name for m in _compared(verdict) if m.name in _noisy(contest, verdict, compared)]
        if loud:
            paired = compared.test == "paired"
            then = (
                "the methods are compared by paired t-tests with Holm's correction instead."
                if paired
                else f"false alarms may rise to 10 %. With {SEEDS_FOR_PAIRED} seeds paired tests could be used."
            )
            found.append(f"Much noisier than the others over the seeds: {names(loud)}; {then}")
        if compared.test == "pooled" and compared.p_range is None and len(verdict.seeds) >= SEEDS_FOR_A_GROUP:
            found.append("The permutation test is left out: with so few methods and seeds it can't reject.")
    if _reference_was_selected(contest):
        found.append(
            f"The reference {verdict.reference} is one of several such settings: the one with the best validation "
            "value, on the seeds that are compared."
        )
    return [*found, *_budgets(contest, verdict)]


def missing(contest: Contest) -> list[str]:
    """What a fair comparison needs and the sweep lacks, each with the lines to add to the grid."""
    rows = contest.rows.rows
    tune = "" if contest.rows.tuned else ", and: tune: {trials: 12}, confirm: {seeds: 5}"
    word = "tuned " if not contest.rows.tuned else ""
    found = []
    if not any(row.plain_sum for row in rows):
        found.append(f"A tuned plain sum: add to the grid's methods: equal{tune}")
    elif tune:
        found.append(
            "A tuned plain sum: nothing was tuned; add to the grid: tune: {trials: 12} and confirm: {seeds: 5}"
        )
    lacking = [task.name for task in contest.tasks if not any(row.single_task == task.name for row in rows)]
    if lacking:
        found.append(
            f"{word.capitalize() or 'Tuned '}single-task baselines of {names(lacking)}: add to the grid's methods: "
            f"{{schedule: single}}, and: set: {{tasks: [{', '.join(task.name for task in contest.tasks)}]}}{tune}"
        )
    statics = sum(max(1, len(row.tried)) for row in rows if row.static)
    if statics < ENOUGH:
        have = f"; it has {statics}, and a front takes {ENOUGH}" if statics else ""
        found.append(f"Static weights: add to the grid's methods: {{weighting: {{name: static, draws: 12}}}}{have}")
    return found


def names(found: Iterable[str]) -> str:
    """Such as "a, b and c", at most NAMED of them."""
    every = list(found)
    if len(every) > NAMED:
        return f"{', '.join(every[:NAMED])} and {len(every) - NAMED} more"
    return " and ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def counted(number: int, what: str) -> str:
    """Such as "1 seed" or "3 seeds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _chosen(contest: Contest, verdict: Verdict) -> str:
    compared = len(_compared(verdict))
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
    others = [m for m in _compared(verdict) if m.versus_reference]
    if verdict.reference is None:
        return ["There is no plain sum, and report.yaml names no other reference: no method is compared with one."]
    if not others:
        return [f"No method is compared with {_reference(verdict)}."]
    if len(verdict.seeds) < 2:
        return ["With one seed no test is possible: no method can be called better or worse."]
    tested = f"95 %, {counted(len(others), 'comparison')}, {counted(len(verdict.seeds), 'seed')}"
    found = [
        sentence
        for word, listed in (("better", verdict.better), ("worse", verdict.worse))
        if (sentence := _than_reference(verdict, word, [m for m in others if m.name in listed], tested))
    ]
    if not found and all(m.versus_reference and m.versus_reference.words == "not tested" for m in others):
        return [f"Nothing is tested against {_reference(verdict)}: the seeds change nothing."]
    if not verdict.better:
        found.insert(0, f"No method is found better than {_reference(verdict)} ({tested}).")
    return found


def _than_reference(verdict: Verdict, word: str, which: Sequence[MethodResult], tested: str) -> str:
    if not which:
        return ""
    sizes = sorted(abs(m.versus_reference.difference) for m in which if m.versus_reference)
    low, high = _number(sizes[0]), _number(sizes[-1])
    by = f"{low} to {high}" if low != high else low
    verb = "is" if len(which) == 1 else "are"
    text = f"{names(m.name for m in which)} {verb} {word} than {_reference(verdict)} by {by} points ({tested})"
    apart = not verdict.strict or {m.name for m in which} <= {*verdict.best_group}
    if word == "better" and len(which) > 1 and apart:
        text += "; they are not told apart from each other"
    return text + "."


def _told_apart(verdict: Verdict, compared: Comparison) -> list[str]:
    methods = _compared(verdict)
    if len(methods) < 2 or math.isnan(verdict.smallest_difference):
        return []
    told = (
        f"With {counted(len(verdict.seeds), 'seed')} differences under {_number(verdict.smallest_difference)} points "
        "cannot be told apart"
    )
    p = "" if verdict.p_range is None else f" (p = {verdict.p_range:.2g})"
    if len(verdict.seeds) < SEEDS_FOR_A_GROUP:
        return [f"{told}; with fewer than {SEEDS_FOR_A_GROUP} no best group is formed."]
    if not compared.strict:
        more = f"; the lead seen would take {counted(verdict.seeds_needed, 'seed')}" if verdict.seeds_needed else ""
        return [f"{told}. Among {len(methods)} methods none was found{p}{more}."]
    if not verdict.strict:
        return [f"{told}; no best group is formed before all methods are compared."]
    group = names(verdict.best_group)
    if len(verdict.best_group) == 1:
        return [f"{told}. {group} is told apart from all {len(methods) - 1} others{p} (paired Tukey, 5 %)."]
    return [f"{told}. Not told apart from the best of {len(methods)}: {group}{p} (paired Tukey, 5 %)."]


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
    return "the plain sum" if verdict.reference == "equal" else str(verdict.reference)


def _compared(verdict: Verdict) -> list[MethodResult]:
    return [m for m in verdict.methods if not m.single and not m.missing and math.isfinite(m.z)]


def _noisy(contest: Contest, verdict: Verdict, compared: Comparison) -> set[str]:
    rows = [row.name for row in contest.rows.rows if row.name in {m.name for m in _compared(verdict)}]
    return {rows[i] for i in compared.noisy if i < len(rows)}


def _reference_was_selected(contest: Contest) -> bool:
    reference = contest.reference
    alike = [row for row in contest.rows.rows if reference and row.method == reference.method and row.runs]
    return not contest.rows.tuned and len(alike) > 1 and contest.report.keys.reference != (reference and reference.name)


def _budgets(contest: Contest, verdict: Verdict) -> list[str]:
    """Where the searches had different budgets: the expected best at the smallest one."""
    methods = [m for m in verdict.methods if not m.single]
    found = []
    fewest, most = (limit((m.trials for m in methods), default=0) for limit in (min, max))
    if verdict.tuned and fewest != most:
        known = [f"{m.name} {m.expected_best:.4g}" for m in methods if m.expected_best is not None]
        at = f" With {counted(fewest, 'trial')} each, the expected best validation/{verdict.value} would be: "
        compared = at + ", ".join(known) + "." if known else ""
        found.append(f"Budgets differ: the methods have {fewest} to {most} trials.{compared}")
    untold = [
        row.name
        for row in contest.rows.rows
        if any(run.spent.backwards is None and run.spent.steps for run in row.spent)
    ]
    if untold:
        found.append("Backward passes are not in all histories: where they are unknown, steps are counted.")
    passes = [m.backwards for m in methods if m.backwards]
    if passes and max(passes) > 1.1 * min(passes):
        found.append(f"Backward passes differ: from {min(passes):,} to {max(passes):,} a method.")
    return found


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"
