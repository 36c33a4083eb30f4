"""The runs of a sweep with their states, without opening a history. `collect` finds by them which runs are new."""

from collections.abc import Iterable
from dataclasses import dataclass

from mtlcluster.sweep.file_sizes import SizeAndTime, sizes_and_times
from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.status import Status, read_status


@dataclass(frozen=True)
class ListedRun:
    """One run and its state.

    Attributes:
        run: Its folder.
        state: As in status.json, or `cancelled`, or `unreadable`.
        error: Why it failed or can't be read, else empty.
        status: Size and time of status.json, None where there is none.
        history: The same of history.pkl.
    """

    run: Run
    state: str
    error: str
    status: SizeAndTime | None
    history: SizeAndTime | None


def list_runs(sweep: Sweep, former: Iterable[ListedRun] = ()) -> list[ListedRun]:
    """Lists all runs of the sweep by name.

    Args:
        sweep: The sweep.
        former: The list of the last time. A run in it that was done, and whose files are unchanged, is not read again.
    """
    done = {entry.run.name: entry for entry in former if entry.state == "done"}
    listed = []
    for name, (status, history) in sizes_and_times(sweep, ("status.json", "history.pkl")).items():
        entry = done.get(name)
        if entry is None or (entry.status, entry.history) != (status, history):
            run = sweep.run(name)
            entry = ListedRun(run, *_state_and_error(run), status, history)
        listed.append(entry)
    return listed


def _state_and_error(run: Run) -> tuple[str, str]:
    try:
        status = read_status(run.status) or Status()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return "unreadable", f"status.json: {error}"
    return "cancelled" if status.state == "queued" and run.cancel.exists() else status.state, status.error
