"""The verdict: which methods are better than the reference, which are not told apart from the best, and how sure it is.

The statistics are those of mtlcluster.collect.inference.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mtlcluster.collect.inference.compare import Comparison, compare
from mtlcluster.collect.inference.difference import BETTER, WORSE
from mtlcluster.collect.verdict.asked_for import asked_for
from mtlcluster.collect.verdict.comparable import Table
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.front import make_front
from mtlcluster.collect.verdict.result import MethodResult, Verdict, Versus
from mtlcluster.collect.verdict.results import of_method, of_single_tasks
from mtlcluster.collect.verdict.sentences import sentences
from mtlcluster.collect.verdict.warnings import warnings


def make_verdict(contest: Contest, samples: Mapping[str, float] | None = None, left_out: str = "") -> Verdict:
    """Makes the verdict.

    Args:
        contest: What is compared.
        samples: By method the standard deviation of its difference from the reference that the test data's own error
            makes, in points of z; None where it is not known.
        left_out: Why it is not known, if something can be done about it.
    """
    table = contest.table
    reference = next((i for i, row in enumerate(table.rows) if row is contest.reference), None)
    compared = _compare(contest, table, reference, samples)
    complete = all(row.ended for row in contest.rows.rows)
    results = _results(contest, table, compared, reference, complete)
    words = {result.name: result.versus_reference.words for result in results if result.versus_reference}
    verdict = Verdict(
        complete=complete,
        tuned=contest.rows.tuned,
        fresh_seeds=contest.rows.fresh,
        data=contest.data,
        seeds=table.seeds,
        reference=contest.reference.name if contest.reference else None,
        relative_to=contest.relative_to,
        baseline=contest.baseline if contest.relative_to else {},
        methods=results,
        best_group=[result.name for result in results if result.in_best_group],
        strict=bool(compared and complete and compared.strict),
        better=[name for name, word in words.items() if word == BETTER],
        worse=[name for name, word in words.items() if word == WORSE],
        smallest_difference=compared.smallest_difference if compared else math.nan,
        seeds_needed=compared.seeds_needed() if compared else None,
        p_range=compared.p_range if compared else None,
        delta=contest.report.keys.delta,
        test=compared.test if compared else "none",
        missing=asked_for(contest),
        value=contest.rows.value,
        front=make_front(contest),
    )
    loud = [table.rows[i].name for i in compared.noisy] if compared else []
    limits = warnings(contest, verdict, compared, loud)
    limits += [f"The test data's own error is left out: {left_out}."] if left_out else []
    verdict = replace(verdict, warnings=limits)
    return replace(verdict, sentences=sentences(contest, verdict, compared))


def _compare(
    contest: Contest, table: Table, reference: int | None, samples: Mapping[str, float] | None
) -> Comparison | None:
    if not table.rows or not table.seeds:
        return None
    errors = None
    if samples is not None and all(row.name in samples for i, row in enumerate(table.rows) if i != reference):
        errors = np.array([samples.get(row.name, 0.0) for row in table.rows])
    return compare(table.z, reference, contest.report.keys.delta, errors)


def _results(
    contest: Contest, table: Table, compared: Comparison | None, reference: int | None, complete: bool
) -> list[MethodResult]:
    """The rows of the main table: single-task training first, then the reference, then by z."""
    places = {id(row): i for i, row in enumerate(table.rows)}
    found = []
    for row in contest.rows.rows:
        if not row.single:
            place = places.get(id(row))
            result = of_method(contest, row)
            if place is not None and compared:
                result = _in_comparison(result, table, compared, place, complete)
            worth = result.z if math.isfinite(result.z) else -math.inf
            found.append((place is None or place != reference, place is None, -worth, result))
    ordered = [result for *_, result in sorted(found, key=lambda entry: entry[:3])]
    return [*of_single_tasks(contest), *ordered]


def _in_comparison(
    result: MethodResult, table: Table, compared: Comparison, place: int, complete: bool
) -> MethodResult:
    """The row with what the comparison says of it."""
    put_in = table.put_in[place]
    return replace(
        result,
        z=float(compared.means[place]),
        n=len(table.seeds) - len(put_in),
        worst_put_in=put_in,
        versus_reference=_versus(compared, place),
        in_best_group=place in compared.best_group or not complete,
    )


def _versus(compared: Comparison, place: int) -> Versus | None:
    found, word = compared.differences[place], compared.words[place]
    if found is None or word is None:
        return None
    return Versus(found.mean, found.low, found.high, found.half_seeds, found.half_samples, found.p_better, word)
