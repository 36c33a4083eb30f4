"""What limits a verdict: one sentence each."""

import math
from collections.abc import Sequence

from mtlcluster.collect.inference.compare import SEEDS_FOR_A_GROUP, SEEDS_FOR_PAIRED, Comparison
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.result import Verdict
from mtlcluster.collect.verdict.rows import Row
from mtlcluster.collect.verdict.words import counted, names
from mtlcluster.sweep.series import VALIDATION
from mtlcluster.sweep.trials import STATIC_WEIGHTS

AS_DEAR = 1.2  # times the backward passes of the plain sum: less makes no difference
EXPECTED_BEST = 12  # methods in the sentence on unequal budgets


def warnings(contest: Contest, verdict: Verdict, compared: Comparison | None, loud: Sequence[str]) -> list[str]:
    """What limits the verdict, one sentence each.

    Args:
        contest: What is compared.
        verdict: All but its words.
        compared: The statistics; None where nothing is compared.
        loud: The methods that are much noisier than the others.
    """
    found = [contest.report.note] if contest.report.note else []
    if verdict.tuned and not verdict.fresh_seeds:
        found.append(
            "Tuned and tested on the same seeds: the chosen settings look better than they are. Add "
            "confirm: {seeds: 5} to the grid."
        )
    if _reference_was_selected(contest):
        found.append(
            f"The reference {verdict.reference} is one of several such settings: the one with the best validation "
            "value, on the seeds that are compared."
        )
    found += [
        f"{m.name}: {len(m.worst_put_in)} of {m.n + len(m.worst_put_in)} runs failed; the worst z of any finished run "
        "with the same seed is put in for each."
        for m in verdict.methods
        if m.worst_put_in
    ]
    found += _about_choices(contest)
    return [*found, *(_about_tests(verdict, compared, loud) if compared else []), *_budgets(contest, verdict)]


def _about_choices(contest: Contest) -> list[str]:
    """Where the searches may have missed a better setting."""
    found = [
        f"{row.name}: its trials vary the weights and other keys at once, so that each weighting was tried with one "
        "setting of these keys."
        for row in contest.rows.rows
        if row.static and len(row.tried) > 1 and _vary(row, besides=STATIC_WEIGHTS)
    ]
    others = [row.name for row in contest.rows.rows if not row.single and _best_by_z(contest, row) != row.trial]
    if others:
        found.append(
            f"By validation z another trial is the best one of {names(others)}: validation/{contest.rows.value}, which "
            "chooses the settings, is not what is compared. tune.value can name another value."
        )
    return found


def _vary(row: Row, besides: str) -> bool:
    """True if the trials of a row differ in another key, too."""
    return any(
        one.values[key] != row.tried[0].values.get(key) for one in row.tried for key in one.values if key != besides
    )


def _best_by_z(contest: Contest, row: Row) -> int | None:
    """The trial with the best mean of z on validation data; the chosen one if that is unknown."""
    scale = contest.scales[VALIDATION]
    if scale is None or row.trial is None:
        return row.trial
    z = {
        one.trial: sum(map(scale.z, (run.values for run in one.runs.values()))) / len(one.runs)
        for one in row.tried
        if one.runs
    }
    known = {trial: value for trial, value in z.items() if math.isfinite(value)}
    return max(known, key=lambda trial: (known[trial], trial == row.trial)) if row.trial in known else row.trial


def _about_tests(verdict: Verdict, compared: Comparison, loud: Sequence[str]) -> list[str]:
    found = []
    if loud:
        then = f"false alarms may rise to 20 %. With {SEEDS_FOR_PAIRED} seeds paired tests could be used."
        if compared.test == "paired":
            then = "the methods are compared by paired t-tests with Holm's correction instead."
        found.append(f"Much noisier than the others over the seeds: {names(loud)}; {then}")
    if compared.test == "pooled" and compared.p_range is None and len(verdict.seeds) >= SEEDS_FOR_A_GROUP:
        found.append("The permutation test is left out: with so few methods and seeds it can't reject.")
    return found


def _reference_was_selected(contest: Contest) -> bool:
    reference = contest.reference
    alike = [row for row in contest.rows.rows if reference and row.method == reference.method and row.runs]
    return not contest.rows.tuned and len(alike) > 1 and contest.report.keys.reference != (reference and reference.name)


def _budgets(contest: Contest, verdict: Verdict) -> list[str]:
    """Where the searches had different budgets: the expected best at the smallest one."""
    methods = [m for m in verdict.methods if not m.single]
    found: list[str] = []
    fewest, most = (limit((m.trials for m in methods), default=0) for limit in (min, max))
    if verdict.tuned and fewest != most:
        known = [f"{m.name} {m.expected_best:.4g}" for m in methods if m.expected_best is not None][:EXPECTED_BEST]
        at = f" With {counted(fewest, 'trial')} each, the expected best validation/{verdict.value} would be: "
        more = "" if len(known) < EXPECTED_BEST else ", …; verdict.json has all"
        compared = f"{at}{', '.join(known)}{more}." if known else ""
        found.append(f"Budgets differ: the methods have {fewest} to {most} trials.{compared}")
    spent = [run.spent for row in contest.rows.rows for run in row.spent]
    if older := sum(one.backwards is None and one.steps > 0 for one in spent):
        found.append(
            f"{older} of {counted(len(spent), 'run')} were trained by a version that did not count backward passes: "
            "their steps are counted instead."
        )
    passes = [m.backwards for m in methods if m.backwards]
    if passes and max(passes) > 1.1 * min(passes):
        found.append(f"Backward passes differ: from {min(passes):,} to {max(passes):,} a method.")
    return [*found, *_plain_sum_as_dear(contest)]


def _plain_sum_as_dear(contest: Contest) -> list[str]:
    """Whether a plain sum has as many backward passes a run as the dearest method, and else how to add one."""
    costs = {row.name: cost for row in contest.rows.rows if not row.single and (cost := _backwards_a_run(row))}
    plain = [row for row in contest.rows.rows if row.plain_sum and row.name in costs]
    if not plain:
        return []
    dearest, own = max(costs, key=costs.__getitem__), max(plain, key=lambda row: costs[row.name])
    times = costs[dearest] / costs[own.name]
    if times < AS_DEAR:
        return [f"{own.name} has as many backward passes as the dearest method."] if len(plain) > 1 else []
    epochs = max(int(run.config["epochs"]) for run in own.runs.values())
    longer = f"epochs: {round(times * epochs)}"
    how = (
        f"train {own.name} in a sweep of its own with set: {{{longer}}}"
        if contest.rows.tuned
        else f"add to the grid, for every seed: include: [{{method: equal, {longer}, seed: …}}]"
    )
    return [f"A run of {dearest} takes {times:.1f} times the backward passes of {own.name}. For an equal cost, {how}."]


def _backwards_a_run(row: Row) -> float:
    """The mean over the runs that count; 0 where it is not known."""
    known = [run.spent.backwards for run in row.runs.values() if run.spent.backwards]
    return sum(known) / len(known) if known else 0.0
