"""mtlcluster collect: from the histories of whatever has finished to `report/`, if anything is new."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtlcluster import printable
from mtlcluster._version import __version__
from mtlcluster.collect.plain_matplotlib import plain_matplotlib
from mtlcluster.collect.survey import Seen, survey
from mtlcluster.errors import UserError
from mtlcluster.progress import progress
from mtlcluster.sweep.disk import naming_the_disk
from mtlcluster.sweep.files import make_folder, remove, replace_text
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.locks import locked
from mtlcluster.sweep.reading import read_json

if TYPE_CHECKING:  # needs numpy, which a collect of nothing new need not pay for
    from mtlcluster.collect.gather import Absent, FinishedRun

PAGE = "index.html"
PARTS = ("figures", "tables")
MADE = ".made.json"  # what the report was made of, and which files belong to it
LARGEST = 2**26  # bytes of it
OF_A_REPORT = re.compile(r"index\.html|figures/[a-z][a-z0-9_]*\.(?:png|pdf)|tables/[a-z][a-z0-9_]*\.(?:csv|md)")
NAMED = 10  # runs, or characters, that are named in a message
BOXES = "no font here has {}: the figures have boxes there; to mend that, install one and remove report/"


class NothingFinished(UserError):
    """There is nothing to make a report of yet."""


@dataclass(frozen=True)
class Made:
    """The report that is there: of which code and of what it was made, what was said of it, and its files."""

    code: str
    seen: list[Seen]
    lines: list[str]
    files: list[str]


def collect(sweep: Sweep, notify: Callable[[str], None]) -> Path:
    """Makes `report/` of all runs that have finished and returns the path of its page.

    notify: gets lines for the user: how many runs were collected and which were not. Where no input has changed since
    the last time nothing is read or drawn again. Raises NothingFinished, or UserError where nothing can be written.
    """
    try:
        with locked(sweep.folder / ".report.lock", notify):
            made = _read_made(sweep)
            seen = survey(sweep, made.seen if made else ())
            if not any(entry.state == "done" for entry in seen):
                raise NothingFinished(_nothing_yet(sweep, Counter(entry.state for entry in seen)))
            if made and _is_current(made, sweep, seen):
                lines = [*made.lines, "nothing new since the last report"]
            else:
                lines = _make(sweep, seen, made.files if made else [])
    except OSError as error:
        at = error.filename2 or error.filename or sweep.report  # of a renaming, what was to be replaced
        raise UserError(f"{at}: {error.strerror or error}; no report was made") from error
    for line in lines:
        notify(line)
    return sweep.report / PAGE


def _nothing_yet(sweep: Sweep, states: Counter[str]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "it has no runs"
    return f"sweep '{sweep.name}': nothing has finished yet ({counts})"


def _read_made(sweep: Sweep) -> Made | None:
    """None where no report is there, or none that is whole. Who sent the folder may have written it: only names that a
    report's files and a sweep's runs can have count.
    """
    try:
        if sweep.report.is_symlink():
            return None
        entry = read_json(sweep.report / MADE, LARGEST)
        files = [name for name in entry["files"] if OF_A_REPORT.fullmatch(name)]
        seen = [Seen(sweep.run(name), *found) for name, *found in entry["seen"] if Path(name).name == name]
        return Made(str(entry["code"]), seen, [printable.line(line) for line in entry["lines"]], files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_current(made: Made, sweep: Sweep, seen: list[Seen]) -> bool:
    """Whether all that decides a report is as it was: runs, their states and histories, and the code that draws."""

    def deciding(runs: list[Seen]) -> list[object]:
        return [(entry.run.name, entry.state, entry.error, entry.history) for entry in runs]

    whole = all((sweep.report / name).is_file() for name in made.files)
    return made.code == _code() and deciding(made.seen) == deciding(seen) and whole


def _code() -> str:
    digest = hashlib.sha256(__version__.encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _make(sweep: Sweep, seen: list[Seen], former: list[str]) -> list[str]:
    """former: the files of the report before."""
    with plain_matplotlib():
        return _make_plainly(sweep, seen, former)


def _make_plainly(sweep: Sweep, seen: list[Seen], former: list[str]) -> list[str]:
    from mtlcluster.collect import report
    from mtlcluster.collect.figures import FIGURES
    from mtlcluster.collect.gather import gather

    with progress("collecting", len(seen) + len(FIGURES)) as advance:
        finished, absent = gather(seen, advance)
        lines = [f"collected {report.summary(len(finished), absent)}"]
        unreadable = [run for run in absent if run.state in ("unreadable", "unfinished")]
        lines += [f"passed over {run.name}: {run.reason}" for run in unreadable[:NAMED]]
        lines += [f"and {len(unreadable) - NAMED} more"] if len(unreadable) > NAMED else []
        if not finished:
            raise UserError(f"sweep '{sweep.name}': no history can be read; {'; '.join(lines[1:])}")
        beside = sweep.folder / ".report.new"
        remove(beside)
        try:
            with naming_the_disk(sweep.report):
                lines += _write(sweep.name, finished, absent, beside, advance)
                files = _put_in_place(beside, sweep.report, former)
        finally:
            remove(beside)
    _write_made(sweep.report, Made(_code(), seen, lines, files))
    return lines


def _write_made(report: Path, made: Made) -> None:
    seen = [[entry.run.name, entry.state, entry.error, entry.status, entry.history] for entry in made.seen]
    replace_text(report / MADE, json.dumps({**vars(made), "seen": seen}))


def _write(
    name: str, finished: "list[FinishedRun]", absent: "list[Absent]", folder: Path, advance: Callable[[], object]
) -> list[str]:
    """Writes the whole report into `folder`. Returns what there is to say of it."""
    from mtlcluster.collect import figures, report, tables
    from mtlcluster.collect.settings import settings, tasks_of

    folder.mkdir()
    for part in PARTS:
        (folder / part).mkdir()
    found, tasks = settings(finished), tasks_of(finished)
    made = tables.tables(found, tasks)
    drawing = figures.Figures(found, tasks, made[0])
    drawn = drawing.draw(folder / "figures", advance)
    texts = {PAGE: report.report(name, found, absent, made, drawn), "tables/runs.csv": tables.runs_csv(found)}
    for table in made:
        texts[f"tables/{table.name}.csv"] = tables.as_csv(table)
        texts[f"tables/{table.name}.md"] = tables.as_markdown(table)
    for file, text in texts.items():
        (folder / file).write_text(text, "utf-8", "backslashreplace")  # half of a pair is no UTF-8
    return [BOXES.format(drawing.boxes[:NAMED])] if drawing.boxes else []


def _put_in_place(beside: Path, report: Path, former: list[str]) -> list[str]:
    """Moves the new files over the former ones, the page last, and removes what the former report had and this has not.

    Whoever is killed on the way leaves every file whole, and a MADE that is of nothing, so that the next collect makes
    all of it again.
    """
    names = sorted(str(path.relative_to(beside)) for path in beside.rglob("*") if path.is_file() and path.name != PAGE)
    for folder in (report, *(report / part for part in PARTS)):
        make_folder(folder)
    _write_made(report, Made("", [], [], sorted({*former, *names, PAGE})))
    for name in [*names, PAGE]:
        with open(beside / name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside / name, report / name)
    for name in {*former} - {*names, PAGE}:
        if not (report / name).is_symlink():
            (report / name).unlink(missing_ok=True)
    return [*names, PAGE]
