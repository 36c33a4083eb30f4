"""What a step of the loop costs beside a hand-written PyTorch loop of the same model and data.

    python tests/benchmarks/step.py

Both loops train the same model from the same initial weights, with AdamW (fused in both), with and without clipping in
both, in alternating blocks of steps in one process; figures are medians over the blocks. Ours also records losses and
weights of every step, and the gradient's norm (without clipping at every tenth).
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mtlcluster import MultiTaskModel, Problem, Task, TensorData
from mtlcluster.config.run import RunConfig
from mtlcluster.training.batches import groups
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.train import load_build, prepare

BLOCKS, STEPS = 80, 5


def mlp() -> Problem:
    """An MLP with 3 M shared parameters and two tasks."""
    width = 1000
    layers = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64 * 20, width, generator=generator)
    targets = {"a": torch.randint(10, (len(inputs),), generator=generator), "b": inputs.mean(1)}
    data = TensorData(inputs, targets)
    heads = {"a": nn.Linear(width, 10), "b": nn.Linear(width, 1)}
    tasks = [Task.classification("a", 10), Task.regression("b")]
    return Problem(MultiTaskModel(nn.Sequential(*layers), heads), tasks, data, data)


def by_hand(problem: Problem, optimizer: torch.optim.Optimizer, order: torch.Tensor, losses: dict, clip) -> None:
    model = problem.model
    for batch in order.split(64):
        inputs, targets = problem.train[batch]
        optimizer.zero_grad()
        representation = model.trunk(inputs)
        total = sum(loss(model.heads[task](representation), targets[task]) for task, loss in losses.items())
        total.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def measure(name: str, build, losses: dict, gradient_clip: float | None = None) -> tuple[float, float]:
    """Median seconds per step: of the hand-written loop, and of ours."""
    config = RunConfig(job="jobs/digits.py:build", epochs=1000, gradient_clip=gradient_clip)
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepare(build, config, Path(folder), Callbacks())
        trainer.saved_at, trainer.save_every = time.monotonic(), 1e9
        reference = build()
        optimizer = torch.optim.AdamW(reference.model.parameters(), lr=1e-3, fused=True)
        seconds: dict[str, list[float]] = {"hand": [], "ours": []}
        for block in range(BLOCKS + 4):
            order = torch.randperm(len(reference.train))[: 64 * STEPS]
            for which in ("hand", "ours") if block % 2 else ("ours", "hand"):
                start = time.perf_counter()
                if which == "hand":
                    by_hand(reference, optimizer, order, losses, gradient_clip)
                else:
                    for batches in groups(trainer.feed.load(trainer.problem.train, list(order.split(64))), 1):
                        trainer._train_step(batches)
                        trainer._between_steps()
                if block >= 4:
                    seconds[which].append((time.perf_counter() - start) / STEPS)
    ours, hand = seconds["ours"], seconds["hand"]
    ratio = statistics.median(o / h for o, h in zip(ours, hand, strict=True))
    hand_median, ours_median = statistics.median(hand), statistics.median(ours)
    print(
        f"{name}: by hand {hand_median * 1e6:8.0f} µs, ours {ours_median * 1e6:8.0f} µs a step; ratio {ratio:.3f}, "
        f"overhead {(ours_median - hand_median) * 1e6:.0f} µs"
    )
    return hand_median, ours_median


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(outputs.flatten(), targets)


def binary(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(outputs.flatten(), targets)


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    digits = load_build("jobs/digits.py:build", root, RunConfig(job="digits"))
    measure("MLP of 3 M parameters, batch 64          ", mlp, {"a": F.cross_entropy, "b": squared})
    measure("MLP of 3 M parameters, batch 64, clipping", mlp, {"a": F.cross_entropy, "b": squared}, 1.0)
    tasks = {"left": F.cross_entropy, "right": F.cross_entropy, "even_sum": binary, "difference": squared}
    measure("digits' small model, batch 64            ", digits, tasks)
    sys.exit(0)
