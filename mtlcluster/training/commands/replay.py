"""`mtlcluster replay RUN`: repeats the step that stopped a run, and prints the outputs of all modules.

Started as `python -m mtlcluster._entry replay RUN_FOLDER`.
"""

import sys
from pathlib import Path

import torch
from rich.table import Table

from mtlcluster.errors import UserError
from mtlcluster.terminal import console, standard_streams
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.nonfinite.diagnosis import Diagnosis, Range
from mtlcluster.training.train import load_run, prepare


def main(folder: Path) -> None:
    """Repeats the step that stopped the run in `folder`, and prints it.

    Raises:
        ValueError: There is no such step, it can't be read, or the job does not fit it.
        UserError: The run's configuration or job is missing or wrong.
    """
    config, build = load_run(folder)
    trainer = prepare(build, config, folder, Callbacks())
    moment = trainer.failed_step()
    found = trainer.diagnose(moment)
    assert found is not None  # a step without labels is not kept
    for names in moment["names"]:
        print(f"batch: {', '.join(names)}")
    for line in report(found):
        console().print(line)
    same = torch.equal(found.found.losses.cpu().nan_to_num(), moment["losses"].nan_to_num())
    print(f"step {moment['step'] + 1}: {found.sentence()}")
    print("the losses are the same as in the run, bit for bit" if same else "the losses differ from those in the run")


def report(found: Diagnosis) -> list[Table | str]:
    """The step as tables: losses and weights, the output of every module, and the gradients at these outputs."""
    losses = Table(title="Losses", title_justify="left")
    for column in ("task", "loss", "weight"):
        losses.add_column(column, justify="left" if column == "task" else "right")
    for name, loss, weight in zip(found.tasks, found.found.losses.tolist(), found.found.weights.tolist(), strict=True):
        losses.add_row(name, f"{loss:.4g}", f"{weight:.4g}")
    outputs = _ranges("Outputs, in their order", found.outputs)
    return [losses, outputs, _ranges("Gradients at the outputs, in their order", found.gradients)]


def _ranges(title: str, ranges: list[Range]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("module", "kind", "shape", "lowest", "highest", "not finite"):
        table.add_column(column, justify="left" if column in ("module", "kind") else "right", overflow="fold")
    first = next((i for i, row in enumerate(ranges) if row.non_finite), None)
    for i, row in enumerate(ranges):
        shape = "×".join(map(str, row.shape))
        count = f"{row.non_finite:,}{' ← first' if i == first else ''}" if row.non_finite else ""
        style = "bold red" if i == first else None
        table.add_row(row.module, row.kind, shape, f"{row.lowest:.3g}", f"{row.highest:.3g}", count, style=style)
    return table


if __name__ == "__main__":
    with standard_streams():
        try:
            main(Path(sys.argv[1]))
        except (UserError, ValueError) as error:
            print(f"mtlcluster: {error}", file=sys.stderr)
            sys.exit(2)
