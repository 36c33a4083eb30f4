"""trials.json: the search of a sweep. Which methods are tuned, which settings each of them tries, and by which runs.

    {"format": 1, "draw_seed": 0, "value": "relative_loss", "direction": "min",
     "tuning_seeds": [0], "confirming_seeds": [1, 2, 3], "prune": {"at": [0.1, 0.3], "keep": 0.33} or null,
     "columns": ["optimizer.lr", …],     the keys that are searched for all methods: the first columns of the sequence
     "methods": {"gradnorm": {
         "method": {"weighting": {"name": "gradnorm"}}, "searched": ["optimizer.lr", …], "single_task": null,
         "trials": [{"trial": 0, "values": {"optimizer.lr": 0.00123}, "runs": {"0": "3f9a1c5e20"}}, …]}}}

`submit` writes it. It only adds to it: the values of a trial that was drawn once stay. The runs of a trial are those of
the grid as it was last submitted.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.names import SWEEP, fits
from mtlcluster.sweep.reading import LARGE, Unreadable, read_json

FORMAT = 1


@dataclass
class Trial:
    """One setting of one method.

    Attributes:
        trial: Its number, from 0.
        values: The values that were drawn or chosen for it, by dotted key.
        runs: The identity of its run, by tuning seed.
    """

    trial: int
    values: dict[str, Any]
    runs: dict[int, str]


@dataclass
class SearchedMethod:
    """One method of the grid, and its trials.

    Attributes:
        name: Its label: unique in the sweep, and safe as the name of a file.
        method: The method as the grid names it, without the options that are searched.
        searched: The dotted keys that differ between its trials. Empty: it has one trial.
        single_task: The task of a single-task baseline; None for all other methods.
        trials: Its trials, by number.
    """

    name: str
    method: dict[str, Any]
    searched: list[str] = field(default_factory=list)
    single_task: str | None = None
    trials: list[Trial] = field(default_factory=list)


@dataclass
class Search:
    """The search of a sweep.

    Attributes:
        draw_seed: Scrambles the Sobol sequence.
        value: The validation value that chooses the setting of each method.
        direction: The better direction of this value: "min" or "max".
        tuning_seeds: Every trial is trained with each of these seeds.
        confirming_seeds: The chosen setting of each method is trained with each of these seeds. Empty: with none.
        prune: `at` (shares of the training) and `keep`; None without pruning.
        columns: The keys that are searched for all methods, in the order of the columns of the Sobol sequence. The own
            keys of a method follow in the next columns.
        methods: The methods by name, in the order of the grid.
    """

    draw_seed: int
    value: str
    direction: str
    tuning_seeds: list[int]
    confirming_seeds: list[int]
    prune: dict[str, Any] | None = None
    columns: list[str] = field(default_factory=list)
    methods: dict[str, SearchedMethod] = field(default_factory=dict)

    def trial_of(self, identity: str) -> tuple[SearchedMethod, Trial, int] | None:
        """The method, the trial and the tuning seed of a run; None if the run is no trial.

        Args:
            identity: The hash of the run.
        """
        for method in self.methods.values():
            for trial in method.trials:
                for seed, run in trial.runs.items():
                    if run == identity:
                        return method, trial, seed
        return None


def write_search(path: Path, search: Search) -> None:
    """Replaces trials.json."""
    entry = {"format": FORMAT, **asdict(search)}
    for method in entry["methods"].values():
        del method["name"]  # it is the key
    replace_text(path, json.dumps(entry, indent=1))


def read_search(path: Path) -> Search | None:
    """Reads trials.json; None if the sweep has no search.

    Raises:
        Unreadable: The file is damaged, or of a newer version.
    """
    try:
        entry = read_json(path, LARGE)
    except FileNotFoundError:
        return None
    try:
        if entry.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}, which this version of mtlcluster reads")
        if prune := entry.get("prune"):
            entry["prune"] = {"at": [float(share) for share in prune["at"]], "keep": float(prune["keep"])}
        methods = {name: _method(name, of_method) for name, of_method in entry.pop("methods").items()}
        return Search(**entry, methods=methods)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"{path}: is not the search of a sweep ({type(error).__name__}: {error})") from None


def _method(name: str, entry: dict[str, Any]) -> SearchedMethod:
    if not fits(SWEEP, name):
        raise ValueError(f"{name!r} is no name of a method")
    trials = [
        Trial(int(t["trial"]), dict(t["values"]), {int(seed): str(run) for seed, run in t["runs"].items()})
        for t in entry.pop("trials")
    ]
    return SearchedMethod(name, trials=trials, **entry)
