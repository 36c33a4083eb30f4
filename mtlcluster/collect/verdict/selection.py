"""The setting that is chosen for each method of a search, and the runs that count for it."""

from collections.abc import Sequence

from mtlcluster.collect.read_histories import FinishedRun, OmittedRun
from mtlcluster.collect.verdict.rows import UNENDED, Row, Rows, Tried
from mtlcluster.sweep.choices import Candidate, Choice, best_candidate, read_choices
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial

Runs = dict[str, FinishedRun | OmittedRun]  # by identity


def searched_rows(sweep: Sweep, search: Search, finished: Sequence[FinishedRun], omitted: Sequence[OmittedRun]) -> Rows:
    """The methods of a search, each with its chosen setting.

    The choice is the last one in choices/METHOD.json. Where the grid confirms nothing, it is made here, by the mean of
    the value that decides over the tuning seeds, and the tuning runs themselves are compared.

    Raises:
        Unreadable: A file of choices is damaged.
    """
    runs: Runs = {hash_of(run.name): run for run in omitted}
    runs |= {hash_of(run.name): run for run in finished}
    rows = [_row(sweep, search, method, runs) for method in search.methods.values()]
    fresh = bool(search.confirming_seeds) and not {*search.confirming_seeds} & {*search.tuning_seeds}
    return Rows(rows, True, fresh, search.value, search.direction, search.tuning_seeds)


def _row(sweep: Sweep, search: Search, method: SearchedMethod, runs: Runs) -> Row:
    tried = [_tried(search, trial, runs) for trial in method.trials]
    choices = read_choices(sweep.folder, method.name)
    last = choices[-1] if choices else None
    trial = last.trial if last else _chosen_now(search, method, runs)
    chosen = next((one for one in method.trials if one.trial == trial), None)
    tuning = [run for one in method.trials for run in one.runs.values()]
    confirming = {hash_of(name) for choice in choices for name in choice.runs.values()}
    if last and last.runs:
        counted = {seed: hash_of(name) for seed, name in last.runs.items()}
    else:  # nothing is confirmed
        counted = dict(chosen.runs) if chosen else {}
    done = {seed: run for seed, name in counted.items() if isinstance(run := runs.get(name), FinishedRun)}
    failed = [
        s for s, name in counted.items() if isinstance(run := runs.get(name), OmittedRun) and run.state == "failed"
    ]
    waiting = _waiting(search, method, last, runs)
    return Row(
        name=method.name,
        method=next((run.method for one in tried for run in one.runs.values()), method.name),
        single_task=method.single_task,
        trial=trial,
        values=chosen.values if chosen else {},
        runs=done,
        failed=failed,
        missing=waiting or _nothing_done(len(counted), len(done)),
        ended=not waiting,
        tried=tried,
        value=next((one.value for one in tried if one.trial == trial), None),
        spent=[run for name in dict.fromkeys([*tuning, *confirming]) if has_ended(run := runs.get(name)) and run],
        tuning_seeds=len(search.tuning_seeds),
        earlier=choices[:-1],
    )


def _chosen_now(search: Search, method: SearchedMethod, runs: Runs) -> int | None:
    """The number of the trial that is chosen where the grid confirms nothing and all trials have ended."""
    if search.confirming_seeds or _unended(method, runs):
        return None
    found = best_candidate([_candidate(trial, runs) for trial in method.trials], search.direction)
    return found.trial if found else None


def _waiting(search: Search, method: SearchedMethod, last: Choice | None, runs: Runs) -> str:
    """What is still to come of a method's runs; "" if nothing is: all have ended, or no trial of it is done."""
    if last is None:
        trials = sum(len(trial.runs) for trial in method.trials)
        if unended := _unended(method, runs):
            return f"{unended} of the {trials} runs of its trials have not ended"
        can_choose = best_candidate([_candidate(trial, runs) for trial in method.trials], search.direction)
        return "its setting is not chosen yet" if search.confirming_seeds and can_choose else ""
    unended = sum(not has_ended(runs.get(hash_of(name))) for name in last.runs.values())
    if unended:
        return f"{unended} of {len(last.runs)} confirming runs have not ended"
    later = len(method.trials) - len(last.candidates)
    return f"{later} of its trials came after its choice" if later > 0 else ""


def _unended(method: SearchedMethod, runs: Runs) -> int:
    return sum(not has_ended(runs.get(run)) for trial in method.trials for run in trial.runs.values())


def _nothing_done(runs: int, done: int) -> str:
    if done:
        return ""
    return f"none of its {runs} runs is done" if runs else "no trial of it is done"


def has_ended(run: FinishedRun | OmittedRun | None) -> bool:
    """True if nothing more comes of a run by itself."""
    return run is not None and (isinstance(run, FinishedRun) or run.state not in UNENDED)


def _tried(search: Search, trial: Trial, runs: Runs) -> Tried:
    found = {seed: runs[run] for seed, run in trial.runs.items() if run in runs}
    numbers = [float(run.best["number"]) for run in found.values() if run.best and run.best["value"] == search.value]
    value = sum(numbers) / len(numbers) if numbers and len(numbers) == len(trial.runs) else None
    spent = sum(run.spent.backwards or 0 for run in found.values())
    finished = {seed: run for seed, run in found.items() if isinstance(run, FinishedRun)}
    return Tried(trial.trial, trial.values, finished, value, spent)


def _candidate(trial: Trial, runs: Runs) -> Candidate:
    """The trial as a candidate. One with a run that is not done can't be chosen."""
    done = {seed: run for seed, run in trial.runs.items() if isinstance(runs.get(run), FinishedRun)}
    by_seed = {seed: float(best["number"]) for seed, run in done.items() if (best := runs[run].best)}
    number = sum(by_seed.values()) / len(by_seed) if len(by_seed) == len(trial.runs) else None
    return Candidate(trial.trial, number, by_seed, sum(runs[run].spent.backwards or 0 for run in done.values()))
