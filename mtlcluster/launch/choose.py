"""Chooses the setting of a method from its trials: `python -m mtlcluster._entry choose SWEEP_FOLDER METHOD NUMBER`.

The worker of a confirming job starts it, in a process of its own and without torch. With the sweep locked, it reads how
the trials have ended, writes the choice with this number into choices/METHOD.json, once, and makes the folders of the
confirming runs. If it was killed, the next one goes on where it was. It prints one JSON object:

    {"chosen": true}                the choice is made, and its runs have folders
    {"waits_for": "sentence"}       trials have not ended
    {"error": "sentence"}           nothing can be chosen
"""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtlcluster.config.run import SweepRunConfig, read_sweep_run_config, run_hash
from mtlcluster.config.run_name import trial_run_name
from mtlcluster.errors import UserError
from mtlcluster.launch import run_folders
from mtlcluster.launch.run_status import RunStatus, observe
from mtlcluster.sweep.choices import (
    Candidate,
    Choice,
    best_candidate,
    choices_file,
    placeholder,
    read_choices,
    write_choices,
)
from mtlcluster.sweep.files import new_folder, remove
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.locks import locked
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.reading import Unreadable
from mtlcluster.sweep.status import ENDED, read_status
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, read_search

Trials = dict[str, RunStatus]  # the runs of trials, by their identity


def choose(sweep: Sweep, method: str, number: int) -> dict[str, Any]:
    """Makes the choice with this number, unless it is made, and the folders of its runs.

    Returns:
        What this program prints.
    """
    with locked(sweep.lock, _tell):
        search, choices = read_search(sweep.trials), read_choices(sweep.folder, method)
        if search is None or method not in search.methods:
            return {"error": f"{sweep.trials} has no trials of {method}"}
        made = next((choice for choice in choices if choice.number == number), None)
        if made is None and not any(choice.number > number for choice in choices):
            tried = search.methods[method]
            trials = look_at_trials(sweep, [tried])
            if waits := unended(tried, trials):
                return {"waits_for": waits}
            made = decide(sweep, search, tried, trials, number)
            if made is None:
                return {"error": nothing_to_choose(tried, trials)}
            write_choices(sweep.folder, method, [*choices, made])
        if made is not None:
            make_runs(sweep, search.methods[method], made)
    return {"chosen": True}


def look_at_trials(sweep: Sweep, methods: Iterable[SearchedMethod]) -> Trials:
    """The runs of the trials of these methods, as they are now."""
    wanted = {run for method in methods for trial in method.trials for run in trial.runs.values()}
    names = {run.name for identity, run in sweep.by_identity().items() if identity in wanted}
    return {hash_of(run.run): run for run in observe([sweep], names)}


def unended(method: SearchedMethod, trials: Trials) -> str:
    """A sentence about the trials that have not ended; "" if all have."""
    runs = [(trial.trial, trials.get(run)) for trial in method.trials for run in trial.runs.values()]
    names = [
        run.run if run else f"trial {number} of {method.name}, which was never submitted"
        for number, run in runs
        if run is None or not run.ended
    ]
    if not names:
        return ""
    return f"waits for {names[0]}" + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def candidates(method: SearchedMethod, trials: Trials) -> list[Candidate]:
    """The trials of a method as candidates, without their backward passes. All of them have ended."""
    return [_candidate(trial, {seed: trials[run] for seed, run in trial.runs.items()}) for trial in method.trials]


def _candidate(trial: Trial, runs: dict[int, RunStatus]) -> Candidate:
    by_seed = {seed: float(run.best["number"]) for seed, run in runs.items() if run.best}
    unfit: list[str] = [run.state for run in runs.values() if run.state != "done"]
    unfit += ["done without a value"] if len(by_seed) < len(runs) else []
    number = None if unfit else sum(by_seed.values()) / len(by_seed)
    return Candidate(trial.trial, number, by_seed, state=unfit[0] if unfit else "done")


def decide(sweep: Sweep, search: Search, method: SearchedMethod, trials: Trials, number: int) -> Choice | None:
    """The choice among trials that have all ended; None if nothing can be chosen. Writes nothing."""
    found = candidates(method, trials)
    for candidate, trial in zip(found, method.trials, strict=True):
        candidate.backwards = sum(_backwards(sweep.run(trials[run].run)) for run in trial.runs.values())
    chosen = best_candidate(found, search.direction)
    if chosen is None:
        return None
    trial = method.trials[chosen.trial]
    configs = confirming_configs(sweep, method, trial, search.confirming_seeds)
    return Choice(number, trial.trial, trial.values, time.time(), found, {seed: name for seed, (name, _) in configs})


def nothing_to_choose(method: SearchedMethod, trials: Trials) -> str:
    """Why nothing could be chosen."""
    states = [trials[run].state for trial in method.trials for run in trial.runs.values()]
    counted = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(states))
    return f"nothing can be chosen: no trial of {method.name} is done ({counted}); retry them"


def confirming_configs(
    sweep: Sweep, method: SearchedMethod, trial: Trial, seeds: Iterable[int]
) -> list[tuple[int, tuple[str, SweepRunConfig]]]:
    """The confirming runs of a trial: each seed with the run's name and configuration.

    A run that exists keeps its name. A new one has the code and the cluster of the trial.
    """
    folders = sweep.by_identity()
    config = read_sweep_run_config(folders[next(iter(trial.runs.values()))].config)
    found = []
    for seed in seeds:
        origin = config.origin.model_copy(update={"varied": {**config.origin.varied, "seed": seed}})
        confirming = config.model_copy(update={"seed": seed, "origin": origin})
        identity = run_hash(confirming)
        existing = folders.get(identity)
        name = existing.name if existing else trial_run_name(method.name, trial.trial, seed, identity)
        found.append((seed, (name, confirming)))
    return found


def chosen_trial(sweep: Sweep, method: SearchedMethod, choice: Choice) -> Trial:
    """The trial of a choice. Raises UserError if trials.json does not have it."""
    if choice.trial >= len(method.trials):
        path = choices_file(sweep.folder, method.name)
        raise UserError(f"{path}: trial {choice.trial} is chosen, and {sweep.trials} does not have it")
    return method.trials[choice.trial]


def make_runs(sweep: Sweep, method: SearchedMethod, choice: Choice) -> list[str]:
    """Makes the folders of a choice's runs that have none. The sweep is locked.

    What was said about a placeholder stays said: a cancelled one becomes a cancelled run.

    Returns:
        The names of the new runs.
    """
    missing = {seed for seed, name in choice.runs.items() if not sweep.run(name).folder.exists()}
    if not missing:
        return []
    trial = chosen_trial(sweep, method, choice)
    configs = dict(confirming_configs(sweep, method, trial, sorted(missing)))
    with new_folder(sweep.folder) as hidden:
        for seed, (name, config) in configs.items():
            before, run = sweep.run(placeholder(method.name, choice.number, seed)), Run(hidden / name)
            run.folder.mkdir()
            run_folders.write_config(run, config)
            _keep_what_was_said(before, run)
            run.folder.rename(sweep.folder / name)
            _keep_cancel(before, sweep.run(name))  # one that came right now
            remove(before.folder)
    return [name for name, _ in configs.values()]


def _keep_what_was_said(before: Run, run: Run) -> None:
    _keep_cancel(before, run)
    try:
        status = read_status(before.status)
    except (OSError, ValueError):
        return
    if status and status.state in ENDED:
        run.status.write_bytes(before.status.read_bytes())


def _keep_cancel(before: Run, run: Run) -> None:
    if before.cancel.exists():
        run.cancel.write_bytes(before.cancel.read_bytes())


def _backwards(run: Run) -> int:
    """The backward passes of a run's whole training; 0 if its history does not say."""
    try:
        return int(read_history(run.history)["info"].get("backwards", 0))
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    sweep, method, number = Sweep(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    try:
        said = choose(sweep, method, number)
    except (UserError, Unreadable) as error:
        said = {"error": str(error)}
    except OSError as error:
        said = {"error": f"{error.filename or 'disk'}: {error.strerror}"}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
