"""The code of a sweep as its project has it now, compared with the code/<hash>/ that its runs began with."""

import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from mtlcluster import _entry
from mtlcluster.config.job_file import JobFile, asked_code, parse_job
from mtlcluster.config.run import read_sweep_run_config
from mtlcluster.errors import UserError
from mtlcluster.launch.code import project, snapshot
from mtlcluster.launch.code.snapshot import Snapshot
from mtlcluster.launch.sweep_file import read_sweep_file, source_of
from mtlcluster.methods.catalog import check_method, moved_method, own_files
from mtlcluster.sweep import submissions
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.yaml_fields import job_of

NAMED = 3  # files in one sentence


class CurrentCode:
    """The code of a sweep as its project has it now. Raises UserError if sweep.yaml does not say where that is."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.file = read_sweep_file(sweep)
        self.source = source_of(sweep, self.file)
        self.root = Path(self.source.root)
        self.place, _, self.function = self.file.job.partition(":")

    @property
    def is_here(self) -> bool:
        """True if the project is on this machine."""
        return (self.root / self.place).is_file()

    def take(self, names: list[str]) -> Snapshot:
        """The code of these runs as it is now. Raises UserError for what is missing or wrong."""
        return snapshot.take(self._job(), self._methods_of(names), self._asked())

    def keep(self, names: list[str]) -> tuple[str, list[str]]:
        """Keeps the code of these runs as it is now in code/<hash>/.

        Returns:
            Its hash, and what the user should know about it.
        """
        code = self.take(names)
        failures = snapshot.keep(code, self.sweep.code)
        return code.hash, [*code.remarks, *failures]

    def changed(self, code: str) -> list[str]:
        """The files that the job uses and that differ from those in code/<hash>/. code: the hash."""
        now = project.collect(self._job(), self._methods(), self._asked())
        then = snapshot.checksums(self.sweep.code / code)
        of_later = {name for name in now.files if name.startswith(f"{project.OWN_METHODS}/") and name not in then}
        used = sorted(now.files.keys() - now.unused - of_later)
        return [name for name in used if snapshot.checksum(now.files[name]) != then.get(name)]

    def files(self) -> dict[str, bytes]:
        """All files that a snapshot of this project may have held, as they are now."""
        try:
            return snapshot.take(self._job(), self._methods(), self._asked()).files
        except (UserError, OSError):
            return snapshot.library_files()

    def _job(self) -> JobFile:
        return parse_job(self.root, Path(self.place), self.function)

    def _asked(self) -> list[Path]:
        return asked_code(self.root, self.file.code)

    def _methods(self) -> list[Path]:
        """The files of the user's own methods, of any submission, that are still there."""
        return [path for place in self.source.methods.values() if (path := Path(place)).is_file()]

    def _methods_of(self, names: list[str]) -> list[Path]:
        """The files of the user's own methods that these runs use. Raises UserError for what is gone or wrong."""
        places = {name: Path(place) for name, place in self.source.methods.items()}
        found = set()
        for name in names:
            method = read_sweep_run_config(self.sweep.run(name).config).method
            for file in own_files(method):
                if file.name not in places:
                    raise UserError(
                        f"{self.sweep.grid}: does not say where {file.name} came from; submit the grid again"
                    )
                found.add(places[file.name])
                method = moved_method(method, str(places[file.name].parent), file)
            try:
                check_method(method)
            except ValueError as error:
                raise UserError(f"{name}: {error}") from None
        return sorted(found)


def remark(sweep: Sweep, codes: Collection[str], unsaved: int, saved: int, options: str = "") -> list[str]:
    """A sentence about runs to retry, if the project's code has changed since they began. Else no sentence.

    Args:
        sweep: Their sweep.
        codes: The hashes of the code that they began with.
        unsaved: The number of them without a checkpoint.
        saved: The number of them with one.
        options: More options for the command that the sentence gives.
    """
    now = CurrentCode(sweep)
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
    """The same for runs that have failed, found without reading their configurations."""
    latest = submissions.latest(submissions.read(sweep.submissions))
    codes = {latest[name][0].code for name in names if name in latest}
    saved = sum(sweep.run(name).has_saved for name in names)
    return remark(sweep, codes, len(names) - saved, saved, options)


def mend(sweep: Sweep, codes: Iterable[str]) -> None:
    """Writes damaged files of code/<hash>/ again, if the project still has them. Raises UserError if it does not."""
    for code in sorted(set(codes)):
        folder = sweep.code / code
        essential = [*_entry.essential_files(folder), job_of(sweep).partition(":")[0]]
        if snapshot.mend(folder, {}, essential) and (
            lost := snapshot.mend(folder, CurrentCode(sweep).files(), essential)
        ):
            more = f" and {len(lost) - NAMED:,} more" if len(lost) > NAMED else ""
            raise UserError(
                f"{folder} is damaged: {', '.join(lost[:NAMED])}{more} can't be written again, because the project has "
                f"no such code now; mtlcluster retry {shlex.quote(sweep.name)} RUN --restart takes today's, from "
                "scratch"
            )
