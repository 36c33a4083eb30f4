"""The paths in a runs folder, and which sweeps and runs are in it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mtlcluster.errors import UserError, nearest, tell_once
from mtlcluster.sweep import submissions
from mtlcluster.sweep.checksums import checksum_file
from mtlcluster.sweep.files import remove
from mtlcluster.sweep.names import COPY, HASHED, PLACEHOLDER, fits, hash_of, natural

NOT_RUNS = {"code", "submissions", "report", "clusters", "choices"}


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def cancel(self) -> Path:
        return self.folder / "cancel"

    @property
    def history(self) -> Path:
        return self.folder / "history.pkl"

    @property
    def predictions(self) -> Path:
        """What the best model gives for the test data. Missing if there are none, or before the end."""
        return self.folder / "predictions.npz"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def lock(self) -> Path:
        """Locked by the run's worker and its training processes, on any machine, until all have ended."""
        return self.folder / ".lock"

    @property
    def has_saved(self) -> bool:
        """True if there is a checkpoint to continue from. Its checksum is written last."""
        return any(self.checkpoints.glob("step-*.pt.sha256"))


def forget_results(run: Run) -> None:
    """Removes all that a run has computed."""
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    for path in (run.history, run.status, run.predictions, checksum_file(run.predictions)):
        remove(path)


@dataclass(frozen=True)
class Sweep:
    """One sweep's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def grid(self) -> Path:
        return self.folder / "sweep.yaml"

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def submissions(self) -> Path:
        return self.folder / "submissions.jsonl"

    @property
    def trials(self) -> Path:
        """The search: which settings each method tries. Missing if the grid has no `tune`."""
        return self.folder / "trials.json"

    @property
    def lock(self) -> Path:
        return self.folder / ".lock"

    @property
    def report(self) -> Path:
        return self.folder / "report"

    @property
    def clusters(self) -> Path:
        return self.folder / "clusters"

    def submission_folder(self, submission: str) -> Path:
        return self.folder / "submissions" / submission

    def worker_log(self, submission: str) -> Path:
        """The output of a local worker. The worker locks it while it lives, so that others can see whether it does."""
        return self.submission_folder(submission) / "worker.log"

    def run(self, name: str) -> Run:
        """A run by its name. A confirming run whose setting is not chosen yet has its folder among the choices."""
        return Run(self.folder / "choices" / name if fits(PLACEHOLDER, name) else self.folder / name)

    def runs(self) -> list[Run]:
        """All runs, sorted by name, `seed=2` before `seed=10`.

        Names decide which folders are runs, without opening them: a run's folder appears complete.
        """
        if not self.folder.is_dir():
            return []
        with os.scandir(self.folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
        hashed = [name for name in names if fits(HASHED, name) and not hash_of(name).isdecimal()]
        chosen = hashed + self._odd_runs({*names} - {*hashed} - NOT_RUNS)
        identities = [hash_of(name) for name in chosen if fits(HASHED, name)]
        if len({*identities}) < len(identities):
            chosen = self._without_copies(chosen)
        return [self.run(name) for name in sorted(chosen, key=natural)]

    def by_identity(self) -> dict[str, Run]:
        """All runs by their identity, the hash at the end of their names."""
        return {hash_of(run.name): run for run in self.runs()}

    def _without_copies(self, names: list[str]) -> list[str]:
        """One folder for each run. If there are copies: the one that was submitted, else one that was trained."""
        submitted, found = submissions.named_runs(self.submissions), dict[str, str]()

        def order(name: str) -> tuple[bool, bool, list[str | int]]:
            return name not in submitted, not os.path.lexists(self.run(name).status), natural(name)

        for name in sorted(names, key=order):
            identity = hash_of(name) if fits(HASHED, name) else name
            if (kept := found.setdefault(identity, name)) != name:
                tell_once(f"{self.folder / name}: skipped, because {kept} is the same run")
        return list(found.values())

    def _odd_runs(self, names: set[str]) -> list[str]:
        """The runs among folders whose names do not clearly end with a hash (a date may look like one).

        A copy of a run is none, nor is what others put here, such as lost+found.
        """
        names = {name for name in names if not COPY.search(name)}
        filled = {run.name for run in map(self.run, names) if any(map(os.path.lexists, (run.config, run.status)))}
        submitted = submissions.named_runs(self.submissions) if filled < names else set()
        return [name for name in names if name in filled or name in submitted]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def sweeps(runs_folder: Path) -> list[Sweep]:
    """All sweeps of a runs folder, sorted by name; none if the folder is empty or missing."""
    if not runs_folder.exists():
        return []
    if not runs_folder.is_dir():
        raise UserError(f"{runs_folder} is not a folder")
    found = sorted(runs_folder.glob("*/sweep.yaml"))
    return [Sweep(path.parent) for path in found if not path.parent.name.startswith(".")]


def find_sweep(runs_folder: Path, name: str) -> Sweep:
    """The sweep called `name`. Raises UserError with the nearest name if there is none."""
    known = {sweep.name: sweep for sweep in sweeps(runs_folder)}
    if name not in known:
        raise UserError(f"no sweep '{name}' in {runs_folder}{nearest(name, known) if known else ', which holds none'}")
    return known[name]
