"""The roles of runs in a search: which run is a trial of which method, and which one confirms a choice."""

from dataclasses import dataclass, field
from typing import Any

from mtlcluster.errors import tell_once
from mtlcluster.sweep.choices import parse_placeholder, read_choices
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.reading import Unreadable
from mtlcluster.sweep.trials import Search, SearchedMethod, read_search

TRIAL, CONFIRMING, EARLIER = "trial", "confirm", "earlier choice"


@dataclass
class Role:
    """What a run is in the search of its sweep.

    Attributes:
        method: The name of its method.
        trial: The number of its setting; None before it is chosen.
        roles: "trial", "confirm" or "earlier choice", which confirms a choice that holds no more. A run may be both a
            trial and a confirming run.
        values: The drawn values, by dotted key.
    """

    method: str = ""
    trial: int | None = None
    roles: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


class Roles:
    """The roles of all runs of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.by_run: dict[str, Role] = {}  # by identity
        self.methods: dict[str, SearchedMethod] = {}
        try:
            search = read_search(sweep.trials)
            if search is not None:
                self.methods = search.methods
                self._add(sweep, search)
        except (OSError, Unreadable) as error:
            tell_once(f"{error}; the roles of runs are not known")

    def _add(self, sweep: Sweep, search: Search) -> None:
        for method in search.methods.values():
            for trial in method.trials:
                for run in trial.runs.values():
                    self.by_run.setdefault(run, Role(method.name, trial.trial, [TRIAL], trial.values))
            choices = read_choices(sweep.folder, method.name)
            for choice in reversed(choices):
                role = CONFIRMING if choice is choices[-1] else EARLIER
                for name in choice.runs.values():
                    of = self.by_run.setdefault(hash_of(name), Role(method.name, choice.trial, [], choice.values))
                    if CONFIRMING not in of.roles and role not in of.roles:
                        of.roles.append(role)

    def of(self, run: str) -> Role:
        """The role of a run by its name; an empty one for a run outside the search."""
        if parsed := parse_placeholder(run):
            return Role(parsed[0], None, [CONFIRMING])
        return self.by_run.get(hash_of(run), Role())
