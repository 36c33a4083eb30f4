"""`submit --check`: one training step of every distinct method of a grid, with the user's code as it stands."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mtlcluster
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.launch.environment import headless
from mtlcluster.methods.catalog import method_label
from mtlcluster.progress import progress


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
        errors = Path(folder, "errors.txt")
        with progress("checking", len(firsts)) as advance, _one_step_each(paths, grid.job.root, errors) as process:
            verdicts = _verdicts(process)
            for label, line in zip(firsts, verdicts, strict=False):
                advance()
                if line != "ok":
                    process.kill()      # the other methods have the time of the next check
                    raise UserError(f"{grid.path}: method {label}: {line.removeprefix('failed: ')}")
        if process.returncode != 0:
            said = errors.read_text("utf-8", errors="replace").strip()
            words = said.splitlines() or [f"exit status {process.returncode}"]
            raise UserError(f"{grid.path}: the check could not be made: {words[-1]}")


def _one_step_each(configs: list[str], root: Path, errors: Path) -> "subprocess.Popen[str]":
    """The check's process, in the job's root."""
    library = str(Path(mtlcluster.__file__).parent.parent)
    with errors.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mtlcluster.training.check", *configs],
            stdout=subprocess.PIPE,
            stderr=file,
            encoding="utf-8",
            errors="replace",
            cwd=root,
            env=headless(PYTHONPATH=library),
        )


def _verdicts(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Each configuration's verdict, a line of the process's output; the user's code may print as well."""
    assert process.stdout is not None
    lines = (line.rstrip("\n") for line in process.stdout)
    return (line for line in lines if line == "ok" or line.startswith("failed: "))
