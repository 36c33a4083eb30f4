"""The looks of settings and of methods: a method has the same colour in the verdict's figures and in all others."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlcluster.collect.colours import BEHIND_OTHERS, Look, choose_looks, plain_looks
from mtlcluster.collect.settings import Setting
from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.rows import Row

METHODS_IN_COLOUR = 16  # besides the baselines


@dataclass(frozen=True)
class Looks:
    """All looks of one report.

    Attributes:
        settings: By setting.
        methods: By the name of a row of the main table.
    """

    settings: list[Look]
    methods: dict[str, Look]


def choose_all_looks(contest: Contest, settings: Sequence[Setting]) -> Looks:
    """With a search the chosen setting of each method is in front, without one the best settings."""
    if not contest.rows.tuned:
        looks = plain_looks(settings)
        return Looks(looks, {setting.label: look for setting, look in zip(settings, looks, strict=True)})
    owners = {id(run): row for row in contest.rows.rows for run in _runs(row)}
    chosen = {id(run) for row in contest.rows.rows for run in row.runs.values()}
    rows = []
    for setting in settings:  # a setting of several rows, such as single tasks, belongs to one that chose it
        known = sorted((run for run in setting.runs if id(run) in owners), key=lambda run: id(run) not in chosen)
        rows.append(owners[id(known[0])] if known else None)
    names = [setting.method if row is None else row.shown for row, setting in zip(rows, settings, strict=True)]
    looks = choose_looks(settings, names, _chosen_in_front(contest, settings, rows))
    methods = dict.fromkeys((row.name for row in contest.rows.rows), BEHIND_OTHERS)
    for row, look in zip(rows, looks, strict=True):
        if row and look.in_front:
            methods[row.name] = look
    return Looks(looks, methods)


def _runs(row: Row) -> list[object]:
    return [*row.runs.values(), *(run for one in row.tried for run in one.runs.values())]


def _chosen_in_front(contest: Contest, settings: Sequence[Setting], rows: Sequence[Row | None]) -> list[bool]:
    """For each setting, true if it is in front: of each method the chosen one; the best one where none is chosen yet.

    Settings come in the order of `group_runs`, the best first.
    """
    chosen = {id(run) for row in contest.rows.rows for run in row.runs.values()}
    places = {i for i, setting in enumerate(settings) if not chosen.isdisjoint(map(id, setting.runs))}
    open_rows = [row for row in contest.rows.rows if not row.runs]
    places |= {next((i for i, owner in enumerate(rows) if owner is row), -1) for row in open_rows}
    others = [i for i in sorted(places - {-1}) if not settings[i].baseline][:METHODS_IN_COLOUR]
    return [i in others or (i in places and setting.baseline) for i, setting in enumerate(settings)]
