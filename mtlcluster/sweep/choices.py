"""choices/METHOD.json: which setting of a method was chosen, from which values, and the runs that confirm it.

    {"format": 1, "method": "gradnorm",
     "choices": [{"number": 1, "trial": 7, "values": {"optimizer.lr": 0.00123}, "time": …,
                  "candidates": [{"trial": 0, "number": 0.52, "by_seed": {"0": 0.52}, "backwards": 400,
                                  "state": "done"}, …],
                  "runs": {"3": "gradnorm-trial=07-seed=3-3f9a1c5e20"}}]}

The last choice holds. The others are earlier ones: their runs stay.

Until a choice is made, its runs have no names. submissions.jsonl then names them by placeholders, such as
`gradnorm-choice=1-seed=3`. A placeholder has the folder choices/gradnorm-choice=1-seed=3/ once there is something to
say about it: that the user cancelled it, or why nothing could be chosen.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtlcluster.errors import shown
from mtlcluster.sweep import json_values as read
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.names import HASHED, PLACEHOLDER, RUN, fits
from mtlcluster.sweep.reading import SMALL, Unreadable, read_json

FORMAT = 1
MOST = 99_999  # choices of one method


@dataclass
class Candidate:
    """A trial that could be chosen.

    Attributes:
        trial: Its number.
        number: The mean of the value that decides over the tuning seeds; None if a run of it has not ended well.
        by_seed: The value of each tuning seed that has one.
        backwards: The backward passes of all its runs.
        state: "done", or the state of the run because of which it can't be chosen or counts as the worst.
    """

    trial: int
    number: float | None
    by_seed: dict[int, float] = field(default_factory=dict)
    backwards: int = 0
    state: str = "done"


@dataclass
class Choice:
    """The choice of a setting of one method.

    Attributes:
        number: From 1; a later choice replaces the one before.
        trial: The number of the chosen trial.
        values: Its values, by dotted key.
        time: When it was chosen, in Unix seconds.
        candidates: What it was chosen from.
        runs: The names of the confirming runs, by seed.
    """

    number: int
    trial: int
    values: dict[str, Any]
    time: float
    candidates: list[Candidate] = field(default_factory=list)
    runs: dict[int, str] = field(default_factory=dict)


def best_candidate(found: Iterable[Candidate], direction: str) -> Candidate | None:
    """The candidate with the best mean. Ties: the one with fewer backward passes, then the one with the lower number.

    Args:
        found: The trials of one method.
        direction: The better direction of the value: "min" or "max".

    Returns:
        The candidate; None if no trial has ended well.
    """
    sign = 1 if direction == "min" else -1
    fit = [(sign * one.number, one.backwards, one.trial, one) for one in found if one.number is not None]
    return min(fit, key=lambda entry: entry[:3])[3] if fit else None


def placeholder(method: str, number: int, seed: int) -> str:
    """The name of a confirming run in submissions.jsonl before its choice is made."""
    return f"{method}-choice={number}-seed={seed}"


def parse_placeholder(name: str) -> tuple[str, int, int] | None:
    """The method, the number of the choice and the seed of a placeholder; None for any other name."""
    found = PLACEHOLDER.fullmatch(name)
    return (found["method"], int(found["number"]), int(found["seed"])) if found else None


def choices_file(sweep: Path, method: str) -> Path:
    """The path of a method's choices.

    Args:
        sweep: The sweep's folder.
        method: The name of the method.
    """
    return sweep / "choices" / f"{method}.json"


def read_choices(sweep: Path, method: str) -> list[Choice]:
    """The choices of a method, the one that holds last. Empty if none is made yet.

    Args:
        sweep: The sweep's folder.
        method: The name of the method.

    Raises:
        Unreadable: The file is damaged, or of a newer version.
    """
    path = choices_file(sweep, method)
    try:
        entry = read_json(path, SMALL)
    except FileNotFoundError:
        return []
    try:
        if read.mapping(entry)["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}, which this version of mtlcluster reads")
        choices = [_choice(read.mapping(one)) for one in read.listed(entry["choices"])]
    except KeyError as error:
        raise Unreadable(f"{path}: is not the choice of a setting (missing key {error})") from None
    except ValueError as error:
        raise Unreadable(f"{path}: is not the choice of a setting ({error})") from None
    return sorted(choices, key=lambda choice: choice.number)


def write_choices(sweep: Path, method: str, choices: list[Choice]) -> None:
    """Replaces a method's choices. The caller holds the sweep's lock."""
    path = choices_file(sweep, method)
    make_folder(path.parent)
    entry = {"format": FORMAT, "method": method, "choices": [asdict(choice) for choice in choices]}
    replace_text(path, json.dumps(entry, indent=1))


def _choice(entry: Mapping[str, Any]) -> Choice:
    runs = {read.seed(of): read.text(run) for of, run in read.mapping(entry["runs"]).items()}
    if wrong := [run for run in runs.values() if not fits(RUN, run) or not fits(HASHED, run)]:
        raise ValueError(f"{shown(wrong[0])} is no name of a run")
    return Choice(
        number=read.whole(entry["number"], MOST),
        trial=read.whole(entry["trial"]),
        values=read.plain(entry["values"]),
        time=read.number(entry["time"]),
        candidates=[_candidate(read.mapping(one)) for one in read.listed(entry["candidates"])],
        runs=runs,
    )


def _candidate(entry: Mapping[str, Any]) -> Candidate:
    mean, by_seed = entry["number"], read.mapping(entry["by_seed"])
    return Candidate(
        trial=read.whole(entry["trial"]),
        number=None if mean is None else read.number(mean),
        by_seed={read.seed(of): read.number(value) for of, value in by_seed.items()},
        backwards=read.whole(entry["backwards"]),
        state=read.text(entry["state"]),
    )
