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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.errors import shown
from mtlcluster.sweep import json_values as read
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.names import HASH, SWEEP, fits
from mtlcluster.sweep.reading import LARGE, Unreadable, read_json

FORMAT = 1
STATIC_WEIGHTS = "method.weighting.weights"  # the key of the weights that `static` with `draws` searches


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
        if read.mapping(entry)["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}, which this version of mtlcluster reads")
        return _search(entry)
    except KeyError as error:
        raise Unreadable(f"{path}: is not the search of a sweep (missing key {error})") from None
    except ValueError as error:
        raise Unreadable(f"{path}: is not the search of a sweep ({error})") from None


def _search(entry: Mapping[str, Any]) -> Search:
    if entry["direction"] not in ("min", "max"):
        raise ValueError(f"direction is {shown(entry['direction'])}")
    return Search(
        draw_seed=read.whole(entry["draw_seed"], 2**63 - 1),
        value=read.text(entry["value"]),
        direction=entry["direction"],
        tuning_seeds=[read.seed(one) for one in read.listed(entry["tuning_seeds"])],
        confirming_seeds=[read.seed(one) for one in read.listed(entry["confirming_seeds"])],
        prune=None if entry["prune"] is None else _prune(read.mapping(entry["prune"])),
        columns=[read.text(key) for key in read.listed(entry["columns"])],
        methods={
            name: _method(name, read.mapping(of_method)) for name, of_method in read.mapping(entry["methods"]).items()
        },
    )


def _prune(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"at": [read.number(share) for share in read.listed(entry["at"])], "keep": read.number(entry["keep"])}


def _method(name: str, entry: Mapping[str, Any]) -> SearchedMethod:
    if not fits(SWEEP, name):
        raise ValueError(f"{shown(name)} is no name of a method")
    method = read.plain(entry["method"])
    for chosen in method.values():
        read.text(read.mapping(chosen)["name"])
    task, trials = entry["single_task"], [_trial(read.mapping(trial)) for trial in read.listed(entry["trials"])]
    if [trial.trial for trial in trials] != list(range(len(trials))):
        raise ValueError(f"the trials of {name} are not numbered from 0")
    return SearchedMethod(
        name=name,
        method=method,
        searched=[read.text(key) for key in read.listed(entry["searched"])],
        single_task=None if task is None else read.text(task),
        trials=trials,
    )


def _trial(entry: Mapping[str, Any]) -> Trial:
    runs = {read.seed(of): read.text(run) for of, run in read.mapping(entry["runs"]).items()}
    if wrong := [run for run in runs.values() if not fits(HASH, run)]:
        raise ValueError(f"{shown(wrong[0])} is no identity of a run")
    return Trial(read.whole(entry["trial"]), read.plain(entry["values"]), runs)
