"""What the guard against values that are not finite costs a step, while all is well.

    python tests/benchmarks/guard.py

The loop's own step, with the guard and with it taken out (its check, the generators' states before the step, the least
and greatest values of inputs and outputs), in alternating blocks of steps in one process; figures are medians. Without
clipping, where no norm is at hand: with clipping the guard has less to do.
"""

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from step import mlp

from mtlcluster.config.run import RunConfig
from mtlcluster.training import trainer as loop
from mtlcluster.training.batches import groups
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.train import load_build, prepare

BLOCKS, STEPS = 120, 5


def unguarded() -> ExitStack:
    stack = ExitStack()
    nothing = torch.zeros(1)
    stack.enter_context(patch.object(loop.Guard, "is_sound", lambda self, found, norm: True))
    stack.enter_context(patch.object(loop, "random_before_step", lambda device, generator: {}))
    stack.enter_context(patch.object(torch, "aminmax", lambda tensor: (nothing[0], nothing[0])))
    return stack


def measure(name: str, build, gradient_clip: float | None) -> None:
    config = RunConfig(job="jobs/digits.py:build", epochs=10_000, gradient_clip=gradient_clip)
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepare(build, config, Path(folder), Callbacks())
        trainer.model.train()

        def block() -> float:
            steps = groups(trainer._batches(), 1)
            began = time.perf_counter()
            for _ in range(STEPS):
                trainer._train_step(next(steps))
            return (time.perf_counter() - began) / STEPS

        times: dict[str, list[float]] = {"with": [], "without": []}
        for i in range(BLOCKS):
            for kind in ("with", "without") if i % 2 else ("without", "with"):
                with unguarded() if kind == "without" else ExitStack():
                    times[kind].append(block())
    ratio = statistics.median(a / b for a, b in zip(times["with"][5:], times["without"][5:], strict=True))
    with_, without = (statistics.median(times[kind][5:]) * 1e6 for kind in ("with", "without"))
    print(f"{name:40} with {with_:9,.0f} µs   without {without:9,.0f} µs   ratio of pairs {ratio:.4f}")


if __name__ == "__main__":
    digits = RunConfig(job="jobs/digits.py:build")
    for clip in (None, 1.0):
        of = "no clipping" if clip is None else f"clipping at {clip}"
        measure(f"MLP of 3 M, two tasks, {of}", mlp, clip)
        measure(f"digits, four tasks, {of}", load_build(digits.job, Path(__file__).parents[2], digits), clip)
