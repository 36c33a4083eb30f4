"""The files beside the histories that decide about a report: report.yaml, trials.json and the choices."""

from pathlib import Path

from mtlcluster.sweep.file_sizes import SizeAndTime, size_and_time
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.yaml_fields import grid_file_of

REPORT_FILE = "report.yaml"


def report_file(sweep: Sweep) -> Path | None:
    """The path of report.yaml beside the grid file of a sweep, whether it exists or not.

    Returns:
        The path; None if the grid file is not here, as where the sweep was copied from elsewhere.
    """
    grid = grid_file_of(sweep)
    return Path(grid).with_name(REPORT_FILE) if grid and Path(grid).is_file() else None


def sources(sweep: Sweep) -> dict[str, SizeAndTime | None]:
    """Sizes and times of these files, by name: they show whether one has changed."""
    report = report_file(sweep)
    choices = sorted((sweep.folder / "choices").glob("*.json"))
    files = {REPORT_FILE: report, sweep.trials.name: sweep.trials, **{f"choices/{path.name}": path for path in choices}}
    return {name: size_and_time(str(path)) if path else None for name, path in files.items()}
