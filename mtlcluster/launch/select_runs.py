"""From names that a user types to runs: a name, one without its hash, or a part of one."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mtlcluster.errors import UserError
from mtlcluster.launch.run_status import TO_RETRY, RunStatus
from mtlcluster.sweep.folder import Run, find_sweep, meant_by, sweeps

LISTED = 10  # names in an error


def select(sweep: str, names: list[str], parts: Iterable[str]) -> list[str]:
    """Those of a sweep's run names that `parts` mean: each a name, one without its hash, or a part that only one has.

    Raises UserError for a part that no name has or that several have.
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
    """Names, one a line, each on its own; of very many the first."""
    more = [f"… and {len(names) - LISTED:,} more"] if len(names) > LISTED else []
    return "".join(f"\n  {name}" for name in [*names[:LISTED], *more])


def meant(sweep: str, runs: list[RunStatus], parts: Sequence[str]) -> list[RunStatus]:
    """The runs that `parts` mean; all where there are none. Raises UserError, see `select`."""
    names = select(sweep, [run.run for run in runs], parts)
    return [run for run in runs if run.run in names] if parts else runs


def find_run(runs_folder: Path, text: str) -> Path:
    """The folder of the run that `text` means: a path, SWEEP/RUN, or a name, with its hash or without, or a part of one
    that only one run has.

    Raises UserError that lists what there is to choose from.
    """
    if not text:
        raise UserError("expected the name of a run, found nothing")
    if Run(Path(text)).config.is_file():
        return Path(text).resolve()
    sweep_name, slash, part = text.rstrip("/").rpartition("/")
    if slash and Path(text).is_dir() and sweep_name not in {sweep.name for sweep in sweeps(runs_folder)}:
        raise UserError(f"{text} is no run's folder: it has no config.yaml; name a run, or SWEEP/RUN")
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


def to_retry(sweep: str, runs: list[RunStatus], parts: Sequence[str], restart: bool) -> list[RunStatus]:
    """Those of the runs that `parts` mean that failed, were lost or cancelled; without parts, all that did.

    Raises UserError for a named run that has no need of it, unless it is done and to be trained from scratch.
    """
    admitted = (*TO_RETRY, "done") if restart and parts else TO_RETRY
    chosen = meant(sweep, runs, parts)
    refused = [run for run in chosen if run.state not in admitted]
    if parts and refused:
        reasons = {"done": "is done; --restart trains it from scratch"}
        why = [f"{run.run} {reasons.get(run.state, f'is {run.state}; cancel it first')}" for run in refused]
        raise UserError(f"not to be retried:{listing(why)}")
    return [run for run in chosen if run.state in admitted]
