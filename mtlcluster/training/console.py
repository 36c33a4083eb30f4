"""`mtlcluster train config.yaml`: one run in this terminal, without a sweep and without a cluster."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mtlcluster.config.job_file import find_job
from mtlcluster.config.run import RunConfig, read_run_config, run_hash
from mtlcluster.config.yaml_file import YamlFile, dump
from mtlcluster.errors import UserError
from mtlcluster.sweep.files import replace_text
from mtlcluster.training.control import Control, StopRequested

INTERRUPTED = 130


def train_file(config_path: Path, folder: Path) -> int:
    """Trains the run that `config_path` describes in `folder`, going on where an earlier call stopped.

    Returns the exit status: 0, 1 for a loss that is no number any more, 130 after Ctrl-C, which saves first. Raises
    UserError for a mistake in the configuration or a folder that holds another run.
    """
    config = read_run_config(config_path)
    job = find_job(config.job, config_path.parent)
    for section in ("data", "model"):
        if mistake := job.check(section, getattr(config, section)):
            YamlFile(config_path).refuse((section, mistake[0]), mistake[1])
    _claim(folder, config.model_copy(update={"job": job.reference}))
    # torch takes seconds: a mistake in the file was answered before
    from mtlcluster.training.recorder import NonFiniteLoss
    from mtlcluster.training.train import load_build, prepare

    control = TerminalControl()
    try:
        trainer = prepare(load_build(job.reference, job.root, config), config, folder, control)
    except ValueError as error:     # what only the job can know, such as the names of its tasks
        raise UserError(f"{config_path}: {error}") from error
    try:
        with control.progress:
            history = trainer.run()
    except StopRequested:
        print(f"Stopped and saved. This goes on from there: mtlcluster train {config_path} --folder {folder}")
        return INTERRUPTED
    except NonFiniteLoss as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print_result(history, folder)
    return 0


def _claim(folder: Path, config: RunConfig) -> None:
    path = folder / "config.yaml"
    if path.exists():
        if run_hash(read_run_config(path)) != run_hash(config):
            raise UserError(f"{folder} holds another run; choose another with --folder, or remove it")
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, dump(config.model_dump(exclude={"origin"})))


class TerminalControl(Control):
    """A progress bar, and Ctrl-C as the wish to stop at the next step."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[values]}"), TimeRemainingColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        self.bar = self.progress.add_task("starting", total=None, values="")
        self.stopping = False
        self.said = 0.0
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
            for note in values["notes"]:
                self.progress.console.print(note)
        shown = [f"{name.split('/')[0]} {values['latest'][name]:.4g}" for name in SHOWN if name in values["latest"]]
        description = f"epoch {values['epoch']}"
        self.progress.update(self.bar, completed=values["step"], description=description, values="  ".join(shown))
        if event == "epoch" and not self.progress.console.is_terminal and time.monotonic() - self.said > 5:
            self.said = time.monotonic()
            print(f"epoch {values['epoch']}: {'  '.join(shown)}", flush=True)


SHOWN = ("train/total_loss", "validation/mean_loss")


def _print_result(history: dict[str, Any], folder: Path) -> None:
    best = history["info"]["best"]
    table = Table(title=f"best epoch {best['epoch']} ({best['value']} {best['number']:.4g})", title_justify="left")
    for column in ("task", "value", "validation", "test"):
        table.add_column(column, justify="left" if column in ("task", "value") else "right")
    series = history["series"]
    for task in history["info"]["tasks"]:
        for value in ("loss", *task["metrics"]):
            found = series[f"validation/{task['name']}/{value}"]
            at_best = found["value"][list(found["epoch"]).index(best["epoch"])]
            test = series.get(f"test/{task['name']}/{value}")
            table.add_row(task["name"], value, f"{at_best:.4g}", f"{test['value'][-1]:.4g}" if test else "")
    Console().print(table)
    print(f"history: {folder / 'history.pkl'}")
