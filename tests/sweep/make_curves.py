"""Makes curves.json, full-length searches. test_pruning_replayed.py prunes them as if they were trained.

    python tests/sweep/make_curves.py

Takes about three minutes on two cores. Each line of the file is one run:

    {"problem": "digits", "method": "gradnorm", "setting": 7, "seed": 0, "values": {"optimizer.lr": 0.0123, …},
     "best": [0.98, 0.91, …]}

`best` is the best validation value so far after each of VALIDATIONS equal parts of the training. It is shorter if the
run failed. Smaller is better. Every setting is trained with seed 0, and the best ones of each method with other seeds.

The toy problem has no relative_loss, because its losses go below zero: its mean_loss decides. Its seed moves the point
where the training starts, as that of a network draws the first weights.
"""

import json
import math
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CURVES = HERE / "curves.json"
JOBS = HERE.parents[1] / "jobs"
VALIDATIONS = 20
SETTINGS = 24  # of each method
BEST_SETTINGS, SEEDS = 2, 5  # the best settings of each method are trained with these many seeds

DIGITS = {
    "epochs": VALIDATIONS, "batch_size": 64, "gradient_clip": 1.0, "scheduler": {"name": "cosine", "warmup": 0.05},
    "best": {"value": "relative_loss"},
}  # fmt: skip
TOY = {
    "epochs": VALIDATIONS, "batch_size": 1, "gradient_clip": None, "scheduler": {"name": "constant", "warmup": 0},
    "best": {"value": "mean_loss"},
}  # fmt: skip
METHODS = {"digits": ["equal", "gradnorm", "pcgrad"], "toy": ["equal", "rlw", "pcgrad"]}


def drawn(problem: str, method: str) -> list[dict[str, Any]]:
    """The settings of a method: the learning rate; on digits also the dropout, and alpha of gradnorm."""
    draws = np.random.default_rng([len(problem), *method.encode()])
    return [_setting(problem, method, draws.random(3).tolist()) for _ in range(SETTINGS)]


def _setting(problem: str, method: str, at: list[float]) -> dict[str, Any]:
    between = {"digits": (3e-4, 3e-2), "toy": (3e-3, 1)}[problem]
    found: dict[str, Any] = {"optimizer.lr": round(math.exp(np.interp(at[0], [0, 1], np.log(between))), 6)}
    if problem == "digits":
        found["model.dropout"] = round(0.4 * at[1], 3)
    if method == "gradnorm":
        found["alpha"] = round(0.1 + 2.9 * at[2], 3)
    return found


def run_of(problem: str, method: str, values: dict[str, Any], seed: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The function that makes the problem of a run, and its configuration."""
    sys.path.insert(0, str(JOBS))
    options = {"alpha": values["alpha"]} if "alpha" in values else {}
    config = {
        "method": {"gradient": method} if method == "pcgrad" else
                  {"weighting": {"name": method, **options}} if method != "equal" else "equal",
        "seed": seed, "resources": {"cpus": 1},
    }  # fmt: skip
    if problem == "digits":
        import digits

        build = partial(digits.build, digits.Digits(pairs=1000), digits.Network(dropout=values["model.dropout"]))
        optimizer = {"name": "adamw", "lr": values["optimizer.lr"], "weight_decay": 0.01}
        return build, {**DIGITS, **config, "optimizer": optimizer}
    import toy

    start = np.random.default_rng(seed).normal([-8.5, 7.5], 0.5).tolist()
    build = partial(toy.build, toy.Steps(per_epoch=40), toy.Plane(start=start, scale=[0.1, 1]))
    optimizer = {"name": "adam", "lr": values["optimizer.lr"], "weight_decay": 0}
    return build, {**TOY, **config, "optimizer": optimizer}


def trained(run: dict[str, Any]) -> dict[str, Any]:
    """Trains a run, and adds its curve."""
    from mtlcluster import train
    from mtlcluster.training.callbacks import Callbacks
    from mtlcluster.training.nonfinite.guard import NonFinite

    best: list[float] = []

    class Kept(Callbacks):
        """Keeps what the worker of the run would see after each epoch."""

        def report(self, event: str, **values: Any) -> None:
            if event == "epoch":
                best.append(float(f"{values['best']['number']:.6g}"))

    build, config = run_of(run["problem"], run["method"], run["values"], run["seed"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(build, config, folder, Kept())
        except NonFinite as error:
            print(f"{run}: {error}", flush=True)
    return {**run, "best": best}


def main() -> None:
    runs = [
        {"problem": problem, "method": method, "setting": number, "seed": 0, "values": values}
        for problem, methods in METHODS.items()
        for method in methods
        for number, values in enumerate(drawn(problem, method))
    ]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(trained, runs, chunksize=1)
        again = []
        for problem, methods in METHODS.items():
            for method in methods:
                own = [run for run in found if (run["problem"], run["method"]) == (problem, method)]
                whole = [run for run in own if len(run["best"]) == VALIDATIONS]
                best = sorted(whole, key=lambda run: run["best"][-1])[:BEST_SETTINGS]
                again += [{**run, "seed": seed} for run in best for seed in range(1, SEEDS)]
        found += pool.map(trained, again, chunksize=1)
    CURVES.write_text("".join(f"{json.dumps(run)}\n" for run in found))
    print(f"{CURVES}: {len(found)} runs, {CURVES.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
