"""The rows of a comparison: each a method with the setting that was chosen for it, and the runs that count."""

from dataclasses import dataclass, field
from typing import Any

from mtlcluster.collect.read_histories import FinishedRun, OmittedRun
from mtlcluster.collect.settings import SINGLE
from mtlcluster.sweep.choices import Choice

PLAIN_SUM = "equal"
UNENDED = ("queued", "running")


@dataclass(frozen=True, eq=False)
class Tried:
    """A setting that was tried of a method.

    Attributes:
        trial: Its number.
        values: Its values, by dotted key.
        runs: Its finished runs, by tuning seed.
        value: The mean of the value that decides over the tuning seeds, of a pruned run at the rung; None without.
        backwards: The backward passes that its runs have spent; 0 where histories do not say.
    """

    trial: int
    values: dict[str, Any]
    runs: dict[int, FinishedRun]
    value: float | None
    backwards: int = 0


@dataclass(frozen=True, eq=False)
class Row:
    """A method with its chosen setting; without a search, a setting of the grid.

    Attributes:
        name: The name of the method, or the label of the setting.
        method: The method's label, such as "equal".
        single_task: The task of a single-task baseline, else None.
        trial: The number of the chosen trial; None without a search, or where nothing is chosen yet.
        values: The values of the chosen setting, by dotted key.
        runs: The finished runs that count, by seed.
        failed: The seeds whose runs failed.
        missing: Why it takes no part in the comparison; else "".
        ended: False if something is still to come of its runs.
        tried: All settings that were tried of the method; empty without a search.
        value: The mean of the validation value that decides, of the chosen setting; None if there is none.
        spent: Every run of the method that has ended, each once.
        tuning_seeds: The number of tuning seeds; 0 without a search.
        earlier: The choices that a later one has replaced, the first one first.
    """

    name: str
    method: str
    single_task: str | None
    trial: int | None = None
    values: dict[str, Any] = field(default_factory=dict)
    runs: dict[int, FinishedRun] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    missing: str = ""
    ended: bool = True
    tried: list[Tried] = field(default_factory=list)
    value: float | None = None
    spent: list[FinishedRun | OmittedRun] = field(default_factory=list)
    tuning_seeds: int = 0
    earlier: list[Choice] = field(default_factory=list)

    @property
    def single(self) -> bool:
        return self.single_task is not None

    @property
    def static(self) -> bool:
        """True for static weights."""
        found = [*self.runs.values(), *(run for tried in self.tried for run in tried.runs.values())]
        return bool(found) and found[0].config["method"]["weighting"]["name"] == "static" and not self.single

    @property
    def plain_sum(self) -> bool:
        return self.method == PLAIN_SUM

    @property
    def shown(self) -> str:
        """Its name in the table: that of all single-task baselines is the same."""
        return SINGLE if self.single else self.name


@dataclass(frozen=True)
class Rows:
    """All rows, and how their settings were chosen.

    Attributes:
        rows: The rows, in the order of the grid.
        tuned: True if the settings were chosen by a search.
        fresh: True if the chosen settings were trained with seeds that took no part in the choice.
        value, direction: The validation value that chose the settings, and its better direction; "" if there is none.
        tuning_seeds: The seeds of the trials.
    """

    rows: list[Row]
    tuned: bool
    fresh: bool
    value: str
    direction: str
    tuning_seeds: list[int] = field(default_factory=list)
