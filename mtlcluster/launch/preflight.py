"""`submit --check`: makes one training step of every distinct method and problem of a grid, with the code as it is."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mtlcluster import _entry
from mtlcluster.config.grid import Grid, PlannedRun
from mtlcluster.config.yaml_file import dump
from mtlcluster.errors import UserError
from mtlcluster.launch.code import snapshot
from mtlcluster.launch.code.project import OWN_METHODS
from mtlcluster.methods.catalog import method_label, moved_method
from mtlcluster.processes.environment import headless
from mtlcluster.processes.pythonpath import behind
from mtlcluster.progress import Say, progress


def check(grid: Grid, say: Say) -> None:
    """Checks a grid. Raises UserError with the first method that fails and its error."""
    firsts: dict[str, PlannedRun] = {}
    for run in grid.runs:
        firsts.setdefault(_what(run), run)
    methods = len({method_label(run.config.method) for run in firsts.values()})
    settings = f" in {len(firsts)} settings" if len(firsts) > methods else ""
    say(f"checking {methods} method{'s' * (methods != 1)}{settings}: one training step of each")
    with tempfile.TemporaryDirectory(prefix="mtlcluster-check-") as folder:
        code = Path(folder, "code")  # the code that the runs will have, and nothing else of the project
        taken = snapshot.take(grid.job, grid.methods, grid.code)
        snapshot.write(taken.files, code)
        paths = []
        for number, run in enumerate(firsts.values()):
            path = Path(folder, f"{number}.yaml")
            method = moved_method(run.config.method, str(code / OWN_METHODS))
            path.write_text(dump({**run.config.model_dump(), "method": method}), "utf-8")
            paths.append(str(path))
        errors = Path(folder, "errors.txt")
        process = _one_step_each(paths, code, grid.job.root, errors)
        with progress("checking", len(firsts)) as advance, process:
            verdicts = _verdicts(process)
            for run, verdict in zip(firsts.values(), verdicts, strict=False):
                advance()
                if verdict != "ok":
                    process.kill()  # the other methods are checked the next time
                    for remark in taken.remarks:  # for example, which files the runs would not have
                        say(remark)
                    error = _as_in_project(verdict.removeprefix("failed: "), code, grid)
                    which = f" ({run.name})" if settings else ""
                    raise UserError(f"{grid.path}: method {method_label(run.config.method)}{which}: {error}")
        if process.returncode != 0:
            said = errors.read_text("utf-8", errors="replace").strip()
            words = said.splitlines() or [f"exit status {process.returncode}"]
            raise UserError(f"{grid.path}: the check could not be made: {words[-1]}")


def _what(run: PlannedRun) -> str:
    """Identifies what decides whether a run can train: its first step, and what is foreseen of later ones."""
    config = run.config
    decisive = [config.data, config.model, config.tasks, config.batch_size, config.last_batch, config.best]
    return repr([method_label(config.method), *decisive])


def _as_in_project(words: str, code: Path, grid: Grid) -> str:
    """Replaces the paths of the code's copy in an error by those of the project."""
    for path in grid.methods:
        words = words.replace(str(code / OWN_METHODS / path.name), str(path))
        words = words.replace(f"({OWN_METHODS}/{path.name}:", f"({path}:")
    return words.replace(f"{code}/", f"{grid.job.root}/")


def _one_step_each(configs: list[str], code: Path, root: Path, errors: Path) -> "subprocess.Popen[str]":
    """Starts the process that makes the steps, with the environment of a run. root: the project's root."""
    with errors.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *_entry.python_arguments("preflight"), str(root), *configs],
            stdout=subprocess.PIPE,
            stderr=file,
            encoding="utf-8",
            errors="replace",
            cwd=code,
            env=headless(PYTHONPATH=behind(code)),
        )


def _verdicts(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Yields the result of each configuration, a line of the process's output. The user's code may print, too."""
    assert process.stdout is not None
    lines = (line.rstrip("\n") for line in process.stdout)
    return (line for line in lines if line == "ok" or line.startswith("failed: "))
