"""Finds the runs that a user names: by the whole name, the name without its hash, or a part of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mtlcluster.errors import UserError
from mtlcluster.launch.run_status import TO_RETRY, RunStatus
from mtlcluster.sweep.folder import Run, find_sweep, sweeps
from mtlcluster.sweep.names import meant_by
from mtlcluster.sweep.status import State

LISTED = 10  # names in an error


def select(sweep: str, names: list[str], parts: Iterable[str]) -> list[str]:
    """The run names that the user means.

    Args:
        sweep: The sweep's name, for messages.
        names: The names of its runs.
        parts: The user's words: names, names without their hash, or parts that only one name has.

    Raises:
        UserError: No name has a part, or several have it.
    """
    return list(dict.fromkeys(_one(sweep, names, part) for part in parts))


def _one(sweep: str, names: list[str], part: str) -> str:
    found = meant_by(part, names)
    if not found:
        raise UserError(f"no run of {sweep} has '{part}' in its name:{listing(names)}")
    if len(found) > 1:
        raise UserError(f"'{part}' could mean {len(found)} runs of {sweep}:{listing(found)}")
    return found[0]


def listing(names: list[str]) -> str:
    """Names for a message, one on each line; only the first ones if there are many."""
    more = [f"… and {len(names) - LISTED:,} more"] if len(names) > LISTED else []
    return "".join(f"\n  {name}" for name in [*names[:LISTED], *more])


def meant(sweep: str, runs: list[RunStatus], parts: Sequence[str]) -> list[RunStatus]:
    """The runs that `parts` mean; all runs if there are no parts. Raises UserError, see `select`."""
    names = select(sweep, [run.run for run in runs], parts)
    return [run for run in runs if run.run in names] if parts else runs


def find_run(runs_folder: Path, text: str) -> Path:
    """The folder of one run.

    Args:
        runs_folder: The folder of the sweeps.
        text: A path, SWEEP/RUN, a name with or without its hash, or a part that only one name has.

    Raises:
        UserError: No run is meant, or several are; the message lists them.
    """
    if not text:
        raise UserError("expected the name of a run, found nothing")
    if Run(Path(text)).config.is_file():
        return Path(text).resolve()
    sweep_name, slash, part = text.rstrip("/").rpartition("/")
    if slash and Path(text).is_dir() and sweep_name not in {sweep.name for sweep in sweeps(runs_folder)}:
        raise UserError(f"{text} is not the folder of a run: it has no config.yaml; name a run, or SWEEP/RUN")
    if slash:
        sweep = find_sweep(runs_folder, sweep_name)
        names = [run.name for run in sweep.runs()]
        return sweep.run(select(sweep.name, names, [part])[0]).folder.resolve()
    runs = [run for sweep in sweeps(runs_folder) for run in sweep.runs()]
    meant = meant_by(text, {run.name for run in runs})
    found = [run for run in runs if run.name in meant]
    names = [f"{run.folder.parent.name}/{run.name}" for run in found or runs]
    if not found:
        raise UserError(f"no run in {runs_folder} has '{text}' in its name:{listing(names) or ' there are none'}")
    if len(found) > 1:
        raise UserError(f"'{text}' could mean {len(found)} runs:{listing(names)}")
    return found[0].folder.resolve()


def to_retry(
    sweep: str, runs: list[RunStatus], parts: Sequence[str], restart: bool, pruned: bool = False
) -> list[RunStatus]:
    """The runs to retry: those that failed, were lost or were cancelled. A pruned run has to be asked for.

    Args:
        sweep: The sweep's name, for messages.
        runs: Its runs.
        parts: Which of them the user means; all if empty.
        restart: True if they begin from scratch. A run that is done may be named then, too.
        pruned: True for pruned runs in place of the others. One that is named is always taken.

    Raises:
        UserError: The user names a run that needs no retry.
    """
    admitted: tuple[State, ...] = ("pruned",) if pruned else TO_RETRY
    if parts:
        admitted = (*TO_RETRY, "pruned", *(("done",) if restart else ()))
    chosen = meant(sweep, runs, parts)
    refused = [run for run in chosen if run.state not in admitted]
    if parts and refused:
        reasons = {"done": "is done; --restart trains it from scratch"}
        why = [f"{run.run} {reasons.get(run.state, f'is {run.state}; cancel it first')}" for run in refused]
        raise UserError(f"these runs can't be retried:{listing(why)}")
    return [run for run in chosen if run.state in admitted]
