"""`mtlcluster train` and `mtlcluster check`: trains one run, or checks its data, in this terminal without a sweep."""

import math
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Table

from mtlcluster.config.job_file import JobFile, find_job
from mtlcluster.config.run import RunConfig, read_run_and_job, read_run_config, run_hash
from mtlcluster.config.yaml_file import dump
from mtlcluster.defaults import FIRST, NEWEST
from mtlcluster.errors import UserError
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.history import UnsafePickle, read_history
from mtlcluster.sweep.series import LOSS, TEST, TOTAL_LOSS, TRAIN, VALIDATION, VALIDATION_MEAN_LOSS, evaluated
from mtlcluster.terminal import OutputLost, console, say
from mtlcluster.training.callbacks import Callbacks, StopRequested

if TYPE_CHECKING:
    from mtlcluster.problem import Problem, Task

INTERRUPTED = 130  # exit status after Ctrl-C
SHOWN_ERRORS = 10
SAID_EVERY = 5  # seconds, at least, between two lines of output that is no terminal
SHOWN = (TOTAL_LOSS, VALIDATION_MEAN_LOSS)


def train_file(config_path: Path, folder: Path) -> int:
    """Trains a run, from where an earlier call stopped.

    Args:
        config_path: The run's configuration.
        folder: Gets the run's files.

    Returns:
        The exit status: 0; 1 if training failed; 130 after Ctrl-C, which saves first.

    Raises:
        UserError: There is a mistake in the configuration, or the folder holds another run.
    """
    config, job = _read_for(folder, config_path)
    if finished := _finished(folder):
        print(f"{folder} is finished: nothing is left to train")
        _print_result(finished, folder)
        return 0
    # torch takes seconds to import: a mistake in the file is reported before
    from mtlcluster.training.train import load_build, prepare

    callbacks, build = TerminalCallbacks(), None
    try:
        build = load_build(job.reference, job.root, config)
        trainer = prepare(build, config, folder, callbacks)
        trainer.foresee(1)
    except Exception as error:
        return _failed_to_begin(error, config_path, job, build)
    _claim(folder, config, job)  # only now: a refused configuration must not take the folder from its correction
    try:
        with callbacks.progress:
            history = trainer.run()
    except StopRequested:
        print(f"Stopped and saved. This goes on from there: mtlcluster train {config_path} --folder {folder}")
        return INTERRUPTED
    except OutputLost:
        raise
    except Exception as error:
        return _failed(error, job, build, folder)
    _print_result(history, folder)
    return 0


def _failed_to_begin(error: Exception, config_path: Path, job: JobFile, build: Callable[..., Any] | None) -> int:
    """Tells the user about an error that a job raised before the training.

    Returns:
        The exit status.

    Raises:
        UserError: It was a ValueError, a mistake in the configuration that only the job knows, such as an unknown task.
    """
    from mtlcluster.training.error_place import place

    if isinstance(error, (UserError, OutputLost)):
        raise error
    if isinstance(error, ValueError):
        raise UserError(f"{config_path}: {error}{place(error, job.root, build)}") from error
    return _failed(error, job, build)


def _failed(error: Exception, job: JobFile, build: Callable[..., Any] | None, folder: Path | None = None) -> int:
    """Prints the user's part of the traceback and what went wrong. Returns the exit status."""
    from mtlcluster.training.error_place import sentence, user_frames

    again = f". To see that step again: mtlcluster replay {folder}" if getattr(error, "kept", False) else ""
    frames = "".join(traceback.format_list(user_frames(error)))
    print(f"{frames}error: {sentence(error, job.root, build)}{again}", file=sys.stderr)
    return 1


def check_file(config_path: Path) -> int:
    """Checks every batch of a run's data against the contract of training/batch_check.py, and prints what is broken.

    Args:
        config_path: The run's configuration.

    Returns:
        The exit status: 1 if anything is broken.

    Raises:
        UserError: There is a mistake in the configuration.
    """
    config, job = read_run_and_job(config_path)
    import torch

    from mtlcluster.training.early_checks import foresee
    from mtlcluster.training.seeding import seed_everything
    from mtlcluster.training.train import load_build

    seed_everything(config.seed)  # a job may split its data at random: check the same split as the run's
    build = None
    try:
        build = load_build(job.reference, job.root, config)
        problem = build()
        tasks = problem.chosen(config.tasks)
        broken = _check_data(problem, tasks, config)
        foresee(problem, tasks, config, torch.device("cpu"), config.resources.ranks)
        return broken
    except Exception as error:
        return _failed_to_begin(error, config_path, job, build)


def _check_data(problem: "Problem", tasks: "list[Task]", config: RunConfig) -> int:
    from mtlcluster.training.batch_check import broken_batches

    broken, bars = 0, console(stderr=True)
    for name in (TRAIN, VALIDATION, TEST):
        if (data := getattr(problem, name)) is None:
            continue
        steps = track(
            broken_batches(data, tasks, config.batch_size, problem.collate, problem.workers),
            name, math.ceil(len(data) / config.batch_size),
            console=bars, transient=True, disable=not bars.is_terminal,
        )  # fmt: skip
        errors = [found for found in steps if found is not None]
        for found in errors[:SHOWN_ERRORS]:
            print(f"{name}: {found}")
        if len(errors) > SHOWN_ERRORS:
            print(f"{name}: … and {len(errors) - SHOWN_ERRORS:,} more broken batches")
        print(f"{name}: {len(data):,} samples, {f'{len(errors):,} batches broken' if errors else 'all sound'}")
        broken += len(errors)
    return int(broken > 0)


def _read_for(folder: Path, config_path: Path) -> tuple[RunConfig, JobFile]:
    """Reads the user's file. A training that was begun under older defaults keeps them.

    Raises:
        UserError: There is a mistake in the file, or the folder holds another run.
    """
    config, job = read_run_and_job(config_path)
    path = folder / "config.yaml"
    if not path.exists():
        return config, job
    there = read_run_config(path, FIRST)  # it holds every option that there was
    wanted = run_hash(there.model_copy(update={"job": find_job(there.job, folder).reference}))
    for version in range(NEWEST, FIRST - 1, -1):
        config, job = read_run_and_job(config_path, version)
        if run_hash(config.model_copy(update={"job": job.reference})) == wanted:
            return config, job
    raise UserError(f"{folder} holds another run; choose another with --folder, or remove it")


def _finished(folder: Path) -> dict[str, Any] | None:
    """The history of a run that is finished, else None."""
    try:
        history = read_history(folder / "history.pkl")
    except (OSError, ValueError, UnsafePickle):
        return None
    return history if history["info"]["finished"] else None


def _claim(folder: Path, config: RunConfig, job: JobFile) -> None:
    """Writes the run's config.yaml, with the full path of the job."""
    folder.mkdir(parents=True, exist_ok=True)
    placed = config.model_copy(update={"job": f"{job.root / job.file}:{job.function}"})
    replace_text(folder / "config.yaml", dump(placed.model_dump(exclude={"origin"})))


class TerminalCallbacks(Callbacks):
    """Shows a progress bar. The first Ctrl-C asks to stop at the next step; the second interrupts at once."""

    def __init__(self) -> None:
        bars = console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[values]}"), TimeRemainingColumn(),
            console=bars, disable=not bars.is_terminal,
        )  # fmt: skip
        self.bar = self.progress.add_task("starting", total=None, values="")
        self.stopping = False
        self.said_at = 0.0  # when the last line was printed
        self.shown_notes = 0
        signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, *_: Any) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True

    def should_stop(self) -> bool:
        return self.stopping

    def report(self, event: str, **values: Any) -> None:
        if event == "started":
            self.progress.update(self.bar, total=values["steps"])
        for note in values["notes"][self.shown_notes :]:
            self.progress.console.print(note, markup=False, highlight=False)
        self.shown_notes = len(values["notes"])
        shown = [f"{name.split('/')[0]} {values['latest'][name]:.4g}" for name in SHOWN if name in values["latest"]]
        description = f"epoch {values['epoch']}"
        self.progress.update(self.bar, completed=values["step"], description=description, values="  ".join(shown))
        is_due = time.monotonic() - self.said_at > SAID_EVERY
        if event == "epoch" and not self.progress.console.is_terminal and is_due:
            self.said_at = time.monotonic()
            say(f"epoch {values['epoch']}: {'  '.join(shown)}")


def _print_result(history: dict[str, Any], folder: Path) -> None:
    best = history["info"]["best"]
    table = Table(title=f"best epoch {best['epoch']} ({best['value']} {best['number']:.4g})", title_justify="left")
    for column in ("task", "value", VALIDATION, TEST):
        table.add_column(column, justify="left" if column in ("task", "value") else "right")
    series = history["series"]
    for task in history["info"]["tasks"]:
        for value in (LOSS, *task["metrics"]):
            found = series[evaluated(VALIDATION, value, task["name"])]
            at_best = found["value"][list(found["epoch"]).index(best["epoch"])]
            test = series.get(evaluated(TEST, value, task["name"]))
            table.add_row(task["name"], value, f"{at_best:.4g}", f"{test['value'][-1]:.4g}" if test else "")
    console().print(table)
    print(f"history: {folder / 'history.pkl'}")
