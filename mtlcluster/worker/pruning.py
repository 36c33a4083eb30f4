"""Prunes trials: the worker of a trial compares it, at each rung, with the other trials of its method."""

from collections.abc import Mapping

from mtlcluster.sweep.folder import Run, Sweep
from mtlcluster.sweep.names import hash_of
from mtlcluster.sweep.pruning import due, is_kept, is_stopped
from mtlcluster.sweep.status import Status, read_status
from mtlcluster.sweep.trials import STATIC_WEIGHTS, Search, read_search
from mtlcluster.worker.status_file import StatusFile, say


class Pruning:
    """Decides for one run whether it goes on. It reads the status files of other runs and writes its own alone."""

    def __init__(self, run: Run, status_file: StatusFile) -> None:
        """
        Args:
            run: The run.
            status_file: The writer of its status.json.
        """
        self.sweep, self.identity, self.status_file = Sweep(run.folder.parent), hash_of(run.name), status_file
        self.search = self._search()

    def _search(self) -> Search | None:
        """The search, if this run is a trial of it and trials are pruned."""
        try:
            search = read_search(self.sweep.trials)
        except (OSError, ValueError) as error:
            say(f"no trial is pruned: {error}")
            return None
        found = search.trial_of(self.identity) if search and search.prune else None
        # Trials of static weights go on: together they trace the front.
        return None if found is None or STATIC_WEIGHTS in found[0].searched else search

    def note_rungs(self, validation: Mapping[str, int]) -> None:
        """Notes the rungs that the run has reached with its last validation, where the other trials see them.

        Args:
            validation: The numbers of finished epochs and steps at that validation (`epoch`, `step`).
        """
        status, search = self.status_file.status, self.search
        if search is None or search.prune is None or status.best is None:
            return
        new = due(search.prune["at"], status.rungs, validation["step"], status.steps)
        value = float(status.best["number"])
        status.rungs += [{"at": at, **validation, "value": value} for at in new]
        if new:
            self.status_file.write()

    def goes_on(self) -> bool:
        """Decides at the rungs that are noted and not decided. Returns False if the run is pruned.

        What was decided before stays: a worker may have been killed before it could stop the run.
        """
        search, rungs = self.search, self.status_file.status.rungs
        if search is None or search.prune is None:
            return True
        for rung in rungs:
            if "kept" not in rung:
                rung["seen"] = self._others_at(rung["at"])
                rung["kept"] = is_kept(rung["value"], rung["seen"].values(), search.prune["keep"], search.direction)
                self.status_file.changed = True
        return not is_stopped(rungs)

    def _others_at(self, at: float) -> dict[str, float]:
        """What the other trials of this method and tuning seed had at a rung, by identity."""
        search = self._search()  # it may have grown
        found = search.trial_of(self.identity) if search else None
        if found is None:
            return {}
        method, _, seed = found
        wanted = {trial.runs[seed] for trial in method.trials if seed in trial.runs} - {self.identity}
        values = {run: _at(folder, at) for run, folder in self.sweep.by_identity().items() if run in wanted}
        return {identity: value for identity, value in values.items() if value is not None}


def _at(run: Run, at: float) -> float | None:
    """The value that a run had at a rung; None if it has not come there, or if its status can't be read."""
    try:
        status = read_status(run.status) or Status()
    except (OSError, ValueError):
        return None
    return next((float(rung["value"]) for rung in status.rungs if rung["at"] == at), None)
