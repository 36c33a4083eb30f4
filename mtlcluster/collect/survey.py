"""The runs of a sweep at first sight: who is done and who is not, by which `collect` sees whether anything is new."""

from collections.abc import Iterable
from dataclasses import dataclass

from mtlcluster.sweep.file_sizes import SizeAndTime, sizes_and_times
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.status import Status, read_status


@dataclass(frozen=True)
class Seen:
    """One run's folder at first sight. status, history: of these files, if they are there."""

    run: Run
    state: str
    error: str
    status: SizeAndTime | None
    history: SizeAndTime | None


def survey(sweep: Sweep, before: Iterable[Seen] = ()) -> list[Seen]:
    """All runs of the sweep by name, without opening a history.

    before: what was seen the last time; of a run that was done, and whose files are as they were, nothing is read.
    """
    done = {entry.run.name: entry for entry in before if entry.state == "done"}
    seen = []
    for name, (status, history) in sizes_and_times(sweep, ("status.json", "history.pkl")).items():
        entry = done.get(name)
        if entry is None or (entry.status, entry.history) != (status, history):
            run = sweep.run(name)
            entry = Seen(run, *_state(run), status, history)
        seen.append(entry)
    return seen


def _state(run: Run) -> tuple[str, str]:
    """The state and the error."""
    try:
        status = read_status(run.status) or Status()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return "unreadable", f"status.json: {error}"
    return "cancelled" if status.state == "queued" and run.cancel.exists() else status.state, status.error
