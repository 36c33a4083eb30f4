"""The folder `report/`: its files, the record of its sources (`.made.json`), and its replacement by a new report."""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from mtlcluster import printable
from mtlcluster._version import __version__
from mtlcluster.collect.run_list import ListedRun
from mtlcluster.collect.verdict.sources import sources
from mtlcluster.sweep.file_sizes import SizeAndTime
from mtlcluster.sweep.files import make_folder, replace_text
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.reading import read_json

PAGE = "index.html"
PARTS = ("figures", "tables")
RECORD = ".made.json"
LARGEST = 2**26  # bytes of the record
OF_A_REPORT = re.compile(
    r"index\.html|verdict\.(?:json|md|tex)|figures/[a-z][a-z0-9_]*\.(?:png|pdf)|tables/[a-z][a-z0-9_]*\.(?:csv|md)"
)


@dataclass(frozen=True)
class Record:
    """The record of what a report was made from.

    Attributes:
        code: The hash of the code that made it, see `drawing_code`.
        runs: The runs of the sweep, as they were then.
        lines: The lines that were printed for the user.
        files: The files that belong to the report, named from its folder.
        sources: Size and time of the files beside the histories that decide, see `sources`.
    """

    code: str
    runs: list[ListedRun]
    lines: list[str]
    files: list[str]
    sources: dict[str, SizeAndTime | None] = field(default_factory=dict)


def read_record(sweep: Sweep) -> Record | None:
    """Reads the record of the report that is there. None where there is none, or none that can be read.

    The folder may come from somebody else. So names that no file of a report and no run can have are left out.
    """
    try:
        if sweep.report.is_symlink():
            return None
        entry = read_json(sweep.report / RECORD, LARGEST)
        files = [name for name in entry["files"] if OF_A_REPORT.fullmatch(name)]
        runs = [ListedRun(sweep.run(name), *rest) for name, *rest in entry["seen"] if Path(name).name == name]
        return Record(
            str(entry["code"]), runs, [printable.line(line) for line in entry["lines"]], files, entry.get("sources")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def make_cache_folder(folder: Path) -> None:
    """Makes a folder inside the report, to keep results for the next `collect`.

    Raises:
        OSError: The folder or the report itself is a link, which may lead out of the sweep.
    """
    make_folder(folder.parent)
    make_folder(folder)


def write_record(report: Path, record: Record) -> None:
    seen = [[entry.run.name, entry.state, entry.error, entry.status, entry.history] for entry in record.runs]
    entry: dict[str, object] = {"code": record.code, "seen": seen, "lines": record.lines, "files": record.files}
    entry["sources"] = record.sources
    replace_text(report / RECORD, json.dumps(entry))


def is_current(record: Record, sweep: Sweep, listed: list[ListedRun]) -> bool:
    """True if a new report would be the same: the runs, their states and histories, what decides, and the code."""

    def deciding(runs: list[ListedRun]) -> list[object]:
        return [(entry.run.name, entry.state, entry.error, entry.history) for entry in runs]

    whole = all((sweep.report / name).is_file() for name in record.files)
    same = record.sources == sources(sweep) and deciding(record.runs) == deciding(listed)
    return record.code == drawing_code() and same and whole


def drawing_code() -> str:
    """A hash of the version and of all files of this package and of the packages in it."""
    digest = hashlib.sha256(__version__.encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def put_in_place(beside: Path, report: Path, former: list[str]) -> list[str]:
    """Moves a new report over the last one, the page last. Removes the files that only the last one had.

    A kill in between leaves every file whole, and a record without runs: then the next collect makes all of it again.

    Args:
        beside: The folder of the new report.
        report: The folder of the last one.
        former: The files of the last one.

    Returns:
        The files of the new report.
    """
    names = sorted(str(path.relative_to(beside)) for path in beside.rglob("*") if path.is_file() and path.name != PAGE)
    for folder in (report, *(report / part for part in PARTS)):
        make_folder(folder)
    write_record(report, Record("", [], [], sorted({*former, *names, PAGE})))
    for name in [*names, PAGE]:
        with open(beside / name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside / name, report / name)
    for name in {*former} - {*names, PAGE}:
        if not (report / name).is_symlink():
            (report / name).unlink(missing_ok=True)
    return [*names, PAGE]
