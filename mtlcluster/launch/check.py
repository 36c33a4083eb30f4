"""`submit --check`: one training step of every distinct method of a grid, with the user's code as it stands."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mtlcluster
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.methods.catalog import method_label


def check(grid: Grid, notify: Callable[[str], object]) -> None:
    """Raises UserError naming the first method that fails, and its error."""
    firsts: dict[str, PlannedRun] = {}
    for run in grid.runs:
        firsts.setdefault(method_label(run.config.method), run)
    notify(f"checking {len(firsts)} method{'s' * (len(firsts) != 1)}: one training step of each")
    with tempfile.TemporaryDirectory(prefix="mtlcluster-check-") as folder:
        paths = []
        for number, run in enumerate(firsts.values()):
            path = Path(folder, f"{number}.yaml")
            path.write_text(dump(run.config.model_dump()), "utf-8")
            paths.append(str(path))
        answer = _one_step(paths, grid.job.root)
    # The user's code may print as well.
    verdicts = [line for line in answer.stdout.splitlines() if line == "ok" or line.startswith("failed: ")]
    for label, line in zip(firsts, verdicts, strict=False):
        if line != "ok":
            raise UserError(f"{grid.path}: method {label}: {line.removeprefix('failed: ')}")
    if answer.returncode != 0:
        words = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        raise UserError(f"{grid.path}: the check could not be made: {words[-1]}")


def _one_step(configs: list[str], root: Path) -> "subprocess.CompletedProcess[str]":
    """The check's process, in the job's root; each configuration's verdict is a line of its output."""
    library = str(Path(mtlcluster.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-m", "mtlcluster.training.check", *configs],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": library},
    )
