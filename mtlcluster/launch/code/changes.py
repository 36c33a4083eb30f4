"""The code of a sweep as its project has it now, beside what was kept when its runs began."""

import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from mtlcluster.config.job_file import JobFile, asked_code, parse_job
from mtlcluster.errors import UserError
from mtlcluster.launch import run_folders
from mtlcluster.launch.code import project, snapshot
from mtlcluster.launch.code.snapshot import ESSENTIAL, Snapshot
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.yaml_fields import job_of

NAMED = 3  # files in one sentence


class Present:
    """Where a sweep's code comes from. Raises UserError where its sweep.yaml does not tell."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.grid, _, self.root = run_folders.source(sweep)
        self.place, _, self.function = str(self.grid.get("job", "")).partition(":")

    @property
    def is_here(self) -> bool:
        """Whether the project is on this machine."""
        return (self.root / self.place).is_file()

    def take(self, names: list[str]) -> Snapshot:
        """The code of these runs as it is now. Raises UserError for what is gone or wrong."""
        return snapshot.take(self._job(), run_folders.present_methods(self.sweep, names, self.grid), self._asked())

    def keep(self, names: list[str]) -> tuple[str, list[str]]:
        """The same, in the sweep's folder: its hash, and what the user should know of it."""
        code = self.take(names)
        failures = snapshot.keep(code, self.sweep.code)
        return code.hash, [*code.remarks, *failures]

    def changed(self, code: str) -> list[str]:
        """The files of the job, and of what it imports of the project, that are not what they are in code/<hash>/."""
        now = project.collect(self._job(), self._methods(), self._asked())
        then = snapshot.checksums(self.sweep.code / code)
        of_later = {name for name in now.files if name.startswith(f"{project.OWN_METHODS}/") and name not in then}
        used = sorted(now.files.keys() - now.unused - of_later)
        return [name for name in used if snapshot.checksum(now.files[name]) != then.get(name)]

    def files(self) -> dict[str, bytes]:
        """All that is there now of what a snapshot may have had."""
        try:
            return snapshot.take(self._job(), self._methods(), self._asked()).files
        except (UserError, OSError):
            return snapshot.library_files()

    def _job(self) -> JobFile:
        return parse_job(self.root, Path(self.place), self.function)

    def _asked(self) -> list[Path]:
        return asked_code(self.root, self.grid.get("code", []))

    def _methods(self) -> list[Path]:
        """The files of methods of one's own that any submission had and that are still there."""
        return [path for place in run_folders.own_methods(self.grid).values() if (path := Path(place)).is_file()]


def remark(sweep: Sweep, codes: Collection[str], unsaved: int, saved: int, options: str = "") -> list[str]:
    """A sentence for runs to retry, which began with these codes, where the project's is another one now.

    unsaved, saved: how many there are without and with a checkpoint. options: what the command needs more.
    """
    now = Present(sweep)
    if not codes or not now.is_here:
        return []
    files = list(dict.fromkeys(file for code in sorted(codes) for file in now.changed(code)))
    if not files:
        return []
    listed = ", ".join([*files[:NAMED], *(["…"] if len(files) > NAMED else [])])
    ways, name = [], shlex.quote(sweep.name)
    if unsaved:
        some = f" for the {unsaved:,} that saved nothing" if saved else ""
        ways.append(f"mtlcluster retry {name}{options} takes it{some}")
    if saved:
        ways.append(f"mtlcluster retry {name} RUN --restart{options} takes it, from scratch")
    return [f"the code has changed since ({listed}): {'; '.join(ways)}"]


def remark_of_failed(sweep: Sweep, names: Collection[str], options: str = "") -> list[str]:
    """The same for runs that have failed, without reading their configurations."""
    latest = submissions.latest(submissions.read(sweep.submissions))
    codes = {latest[name][0].code for name in names if name in latest}
    saved = sum(sweep.run(name).has_saved for name in names)
    return remark(sweep, codes, len(names) - saved, saved, options)


def mend(sweep: Sweep, codes: Iterable[str]) -> None:
    """Writes again what is damaged of code/<hash>/, where the project still has it. Raises UserError for the rest."""
    for code in sorted(set(codes)):
        folder, essential = sweep.code / code, [*ESSENTIAL, job_of(sweep).partition(":")[0]]
        if snapshot.mend(folder, {}, essential) and (lost := snapshot.mend(folder, Present(sweep).files(), essential)):
            more = f" and {len(lost) - NAMED:,} more" if len(lost) > NAMED else ""
            raise UserError(
                f"{folder} is damaged: {', '.join(lost[:NAMED])}{more} can't be written again, for the project has no "
                f"such code now; mtlcluster retry {shlex.quote(sweep.name)} RUN --restart takes today's, from "
                "scratch"
            )
