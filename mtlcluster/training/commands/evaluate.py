"""`mtlcluster evaluate RUN`: evaluates the best checkpoint of a run on one part of its data, sample by sample.

Started as `python -m mtlcluster._entry evaluate RUN_FOLDER [--split test] [--out FILE]`.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from mtlcluster.csv_text import csv_text
from mtlcluster.errors import UserError
from mtlcluster.problem import Task
from mtlcluster.progress import progress
from mtlcluster.sweep.files import replace_text
from mtlcluster.sweep.history import read_history
from mtlcluster.sweep.series import LOSS, TEST, THRESHOLD, TRAIN, VALIDATION, task_and_value, task_value
from mtlcluster.terminal import console, standard_streams
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.train import load_run, prepare
from mtlcluster.training.trainer import Trainer
from mtlcluster.training.validation import Evaluation

SPLITS = (TRAIN, VALIDATION, TEST)
Columns = dict[str, list[str]]


def main(folder: Path, split: str, out: Path) -> Evaluation:
    """Evaluates a run, writes a row for each sample, and prints the values.

    Args:
        folder: The run's folder.
        split: One of SPLITS.
        out: The CSV file to write.

    Raises:
        UserError: The file cannot be written, or the run lacks these data or a best checkpoint.
        ValueError: The checkpoint cannot be read, or the job does not fit it.
    """
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is not a folder to write predictions into")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out.parent} can't be written to; name another file with --out, such as --out {out.name}")
    info = _info(folder)
    best = info["best"]
    config, build = load_run(folder)
    trainer = prepare(build, config, folder, Callbacks())
    dataset = getattr(trainer.problem, split)
    if dataset is None:
        known = ", ".join(name for name in SPLITS if getattr(trainer.problem, name) is not None)
        raise UserError(f"the job of {folder.name} has no {split} data (known: {known})")
    trainer.load_best(best["step"])
    trainer.relative_loss.go_by(info.get("relative_to", {}))  # older histories lack it
    found, columns = predict(trainer, dataset, best.get("thresholds", {}), f"evaluating {split} data")
    columns = {"id": _ids(dataset), **columns}
    replace_text(out, csv_text([columns, *zip(*columns.values(), strict=True)]))
    chosen = f"epoch {best['epoch']}, the best by {best['value']} ({best['number']:.4g})"
    print(f"{folder.name} on {split} data, after {chosen}")
    console(width=None if sys.stdout.isatty() else 120).print(_table(found, trainer.trained))
    overall = {name: number for name, number in found.values.items() if not task_and_value(name)[0]}
    print(", ".join(f"{name} {number:.4g}" for name, number in overall.items()))
    for note in found.notes(split):
        print(note)
    if dense := [task.name for task in trainer.trained if task.dense]:
        print(f"without the predictions of dense tasks ({', '.join(dense)}): they have one for each pixel")
    print(f"{len(dataset):,} predictions: {out}")
    return found


def _info(folder: Path) -> dict[str, Any]:
    """The history's `info`, which names the best epoch: the checkpoints may be changing while the run goes on."""
    path = folder / "history.pkl"
    info = read_history(path)["info"] if path.exists() else {"best": None}
    if info["best"] is None:
        raise UserError(f"{folder.name} has no best checkpoint yet: it has not been saved since its first validation")
    return dict(info)


def predict(
    trainer: Trainer, dataset: Any, thresholds: dict[str, float], description: str
) -> tuple[Evaluation, Columns]:
    """Evaluates the model and collects its predictions.

    Args:
        trainer: Has the model.
        dataset: The data.
        thresholds: The thresholds of binary tasks.
        description: The text of the progress bar.

    Returns:
        The evaluation; and columns of texts, in the dataset's order. Each task has `<task>/label`, empty where there is
        none, and

        - binary: `probability` of yes, and `decision`;
        - classification: `prediction` and `probability_<class>`;
        - others: `prediction`.

        A dense task has no columns: it has a prediction for each pixel.
    """
    indices = trainer.feed.evaluation_indices(dataset)
    tasks = [task for task in trainer.trained if not task.dense]
    heads: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    labels: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    constant = trainer.relative_loss.measure(TEST)
    with progress(description, len(indices)) as advance:

        def keep(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
            for task in tasks:
                heads[task.name].append(outputs[task.name])
                labels[task.name].append(targets[task.name])
            constant.add(outputs, targets)
            advance()

        found = trainer.relative_loss.complete(TEST, trainer.evaluate(dataset, thresholds, keep), constant)
    order = torch.cat(indices).argsort()
    columns: Columns = {}
    for task in tasks:
        outputs, targets = (torch.cat(kept[task.name]).cpu()[order] for kept in (heads, labels))
        columns |= _label_column(task, targets)
        for name, values in _predicted(task, outputs, found.thresholds.get(task.name)):
            columns |= _columns(task_value(task.name, name), values)
    return found, columns


def _label_column(task: Task, targets: Tensor) -> Columns:
    columns = _columns(task_value(task.name, "label"), targets.long() if task.kind == "binary" else targets)
    if (labelled := task.labelled(targets)) is None:
        return columns
    kept = set(labelled.tolist())
    return {name: [cell if i in kept else "" for i, cell in enumerate(cells)] for name, cells in columns.items()}


def _predicted(task: Task, outputs: Tensor, threshold: float | None) -> Iterator[tuple[str, Tensor]]:
    if task.kind == "binary" and threshold is not None:
        probabilities = task.decode(outputs)
        yield "probability", probabilities
        yield "decision", (probabilities.double() > threshold).long()
    elif task.kind == "classification" and outputs.ndim == 2 and outputs.shape[1] > 1:
        yield "prediction", outputs.argmax(1)
        yield "probability", outputs.softmax(1)
    else:
        yield "prediction", task.decode(outputs)


def _columns(name: str, values: Tensor) -> Columns:
    """One column for values [N] or [N, 1], else a numbered column for each of the places [N, …]."""
    flat = values.flatten(1).T if values.ndim > 1 else values[None]
    names = [name] if len(flat) == 1 else [f"{name}_{i}" for i in range(len(flat))]
    return {name: [_text(value) for value in row.tolist()] for name, row in zip(names, flat, strict=True)}


def _text(value: float) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(int(value))  # nine digits hold a float32


def _ids(dataset: Any) -> list[str]:
    return list(map(str, getattr(dataset, "ids", range(len(dataset)))))


def _table(found: Evaluation, tasks: list[Task]) -> Table:
    table = Table("value")
    for task in tasks:
        table.add_column(task.name, justify="right", overflow="fold")
    values = {**{task_value(task, THRESHOLD): number for task, number in found.thresholds.items()}, **found.values}
    for name in dict.fromkeys([LOSS, *(name for task in tasks for name in task.metrics), THRESHOLD]):
        row = [values.get(task_value(task.name, name)) for task in tasks]
        if any(number is not None for number in row):
            table.add_row(name, *("" if number is None else f"{number:.4g}" for number in row))
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=SPLITS, default=TEST)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    with standard_streams():
        try:
            main(given.folder, given.split, given.out or given.folder / f"predictions-{given.split}.csv")
        except (UserError, ValueError, OSError) as error:
            print(f"mtlcluster: {error}", file=sys.stderr)
            sys.exit(2)
