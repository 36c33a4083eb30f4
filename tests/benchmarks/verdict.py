"""What `collect` costs: verdict, tables and page of many runs, without figures.

    python tests/benchmarks/verdict.py [RUNS ...]

makes a search with RUNS (1,000 and 10,000) histories in a temporary folder: 5 tasks, 20 epochs, 300 points, 20 methods
with their trials of the learning rate, and 5 confirming seeds of each method and of single-task training of each task.
`collect` runs in a process of its own each time:

- all histories for the first time;
- again with 10 new ones;
- with the predictions of 1,000 test samples for the compared runs: this adds the bootstrap (for the first RUNS only).

Printed are processor seconds, seconds by the clock, and the peak memory; and the processes that wanted a processor.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rig.synthetic_sweep import add_run, history, make_sweep, method  # noqa: E402

from mtlcluster.collect.sample_metrics import weighted_metric  # noqa: E402
from mtlcluster.methods.catalog import method_label  # noqa: E402
from mtlcluster.sweep.choices import Candidate, Choice, write_choices  # noqa: E402
from mtlcluster.sweep.folder import Sweep  # noqa: E402
from mtlcluster.sweep.history import read_history, write_history  # noqa: E402
from mtlcluster.sweep.predictions import Predictions, TaskPredictions, write_predictions  # noqa: E402
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, write_search  # noqa: E402

BINARY = ("accuracy", "precision", "recall", "f1", "f1_macro", "f1_weighted", "roc_auc", "average_precision")
TASKS: list[dict[str, Any]] = [
    {"name": "mature", "kind": "binary", "metrics": dict.fromkeys(BINARY, "max")},
    {"name": "sarcasm", "kind": "binary", "metrics": dict.fromkeys(BINARY, "max")},
    {"name": "topic", "kind": "classification", "metrics": {"accuracy": "max", "f1": "max"}},
    {"name": "author", "kind": "classification", "metrics": {"accuracy": "max", "f1": "max"}},
    {"name": "length", "kind": "regression", "metrics": {"mae": "min", "r2": "max"}},
]
SEEDS, EPOCHS, POINTS, SAMPLES, CLASSES, NEW = 5, 20, 300, 1000, 10, 10
WEIGHTINGS = ("equal", "uncertainty", "gradnorm", "dwa", "imtl_l")
GRADIENTS = ("sum", "pcgrad", "cagrad", "imtl_g")
NAMES = [task["name"] for task in TASKS]
METHODS = {
    method_label(full).replace("+", "-"): full
    for full in (method(weighting=w, gradient=g) for g in GRADIENTS for w in WEIGHTINGS)
}
CONFIRMING = (len(TASKS) + len(METHODS)) * SEEDS
COLLECT = """
import json
import re
import resource
import sys
from pathlib import Path
from mtlcluster.collect import figures
from mtlcluster.collect.make_report import make_report
from mtlcluster.collect.verdict import verdict_figures
from mtlcluster.sweep.folder import Sweep
figures.Figures.draw = verdict_figures.draw_verdict = lambda *_: []
make_report(Sweep(Path(sys.argv[1])), lambda line: None)
used = resource.getrusage(resource.RUSAGE_SELF)
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**20
print(json.dumps([used.ru_utime + used.ru_stime, peak]))
"""


def make(sweep: Sweep, numbers: range) -> None:
    """Writes the histories of these runs."""
    for number in numbers:
        kind, trial, seed = place(number)
        full = method(schedule={"name": "single", "task": kind}) if kind in NAMES else METHODS[kind]
        varied = {"optimizer.lr": 1.0 + trial}
        made = history(full, number, varied=varied, quality=20.0 if trial == 0 else 0.0, **shape())
        made["info"]["seed"] = made["info"]["config"]["seed"] = made["info"]["varied"]["seed"] = seed
        made["info"]["backwards"] = 1000
        add_confusions(made)
        add_run(sweep, name_of(number), made)


def place(number: int) -> tuple[str, int, int]:
    """The method (or the task of single-task training), the trial and the seed of a run: confirming runs first."""
    kinds = [*NAMES, *METHODS]
    if number < len(kinds) * SEEDS:
        return kinds[number // SEEDS], 0, 1 + number % SEEDS
    trial, kind = divmod(number - len(kinds) * SEEDS, len(METHODS))
    return list(METHODS)[kind], trial, 0


def name_of(number: int) -> str:
    kind, trial, seed = place(number)
    return f"{kind}-trial={trial:03d}-seed={seed}-{number:010x}"


def make_search(sweep: Sweep, runs: int) -> None:
    """Writes trials.json and the choices: trial 0 of each method is chosen and confirmed."""
    methods = {name: SearchedMethod(name, {}, [], name, [Trial(0, {}, {})]) for name in NAMES}
    methods |= {name: SearchedMethod(name, {}, ["optimizer.lr"]) for name in METHODS}
    for number in range(CONFIRMING, runs):
        kind, trial, seed = place(number)
        methods[kind].trials.append(Trial(trial, {"optimizer.lr": 1.0 + trial}, {seed: f"{number:010x}"}))
    seeds = list(range(1, SEEDS + 1))
    write_search(sweep.trials, Search(0, "mean_loss", "min", [0], seeds, None, ["optimizer.lr"], methods))
    for name, entry in methods.items():
        names = [name_of(number) for number in range(CONFIRMING) if place(number)[0] == name]
        candidates = [Candidate(one.trial, 1.0 + one.trial) for one in entry.trials]
        chosen = Choice(1, 0, entry.trials[0].values, 0.0, candidates, dict(zip(seeds, names, strict=True)))
        write_choices(sweep.folder, name, [chosen])


def shape() -> dict[str, Any]:
    return {"tasks": TASKS, "epochs": EPOCHS, "points": POINTS}


def add_confusions(made: dict[str, Any]) -> None:
    series, numbers = made["series"], np.random.default_rng(0)
    for task in TASKS[:2]:
        if f"validation/{task['name']}/f1" in series:
            counts = numbers.integers(0, 1000, (EPOCHS, 2, 2)).astype(float)
            epochs = series[f"validation/{task['name']}/f1"]["epoch"]
            series[f"validation/{task['name']}/confusion"] = {"epoch": epochs, "value": counts}


def add_predictions(sweep: Sweep) -> None:
    """Writes predictions for the runs that are compared, and their metrics into the histories."""
    for number in range(len(NAMES) * SEEDS, CONFIRMING):
        run, numbers = sweep.run(name_of(number)), np.random.default_rng(number)
        made, tasks = read_history(run.history), [predicted(task, numbers) for task in TASKS]
        write_predictions(run.predictions, Predictions([f"sample-{i}" for i in range(SAMPLES)], None, tasks))
        for task, entry in zip(tasks, TASKS, strict=True):
            for metric in entry["metrics"]:
                value = weighted_metric(task, metric, np.ones((1, SAMPLES)))
                made["series"][f"test/{task.name}/{metric}"]["value"] = value
        write_history(run.history, made)


def predicted(task: dict[str, Any], numbers: np.random.Generator) -> TaskPredictions:
    labels = {"binary": 2, "classification": CLASSES}.get(task["kind"], 50)
    targets = np.random.default_rng(len(task["name"])).integers(0, labels, SAMPLES).astype(np.float32)
    if task["kind"] == "classification":
        outputs = 2 * np.eye(CLASSES)[targets.astype(int)] + numbers.standard_normal((SAMPLES, CLASSES))
    elif task["kind"] == "binary":
        outputs = 1 / (1 + np.exp(1 - 2 * targets - numbers.standard_normal(SAMPLES)))
    else:
        outputs = targets + 5 * numbers.standard_normal(SAMPLES)
    threshold = 0.5 if task["kind"] == "binary" else None
    return TaskPredictions(task["name"], task["kind"], threshold, targets, outputs.astype(np.float32))


def collect(what: str, sweep: Sweep) -> None:
    start = time.perf_counter()
    command = [sys.executable, "-c", COLLECT, str(sweep.folder)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    seconds, (processor, peak) = time.perf_counter() - start, json.loads(done.stdout)
    print(
        f"  {what}: {processor:.1f} processor seconds, {seconds:.1f} s by the clock, {peak:.2f} GiB at most, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main(sizes: list[int]) -> None:
    for runs in sizes:
        with tempfile.TemporaryDirectory() as folder:
            sweep = make_sweep(Path(folder) / "benchmark")
            make(sweep, range(runs))
            make_search(sweep, runs)
            print(f"{runs:,} runs", flush=True)
            collect("first", sweep)
            make(sweep, range(runs, runs + NEW))
            make_search(sweep, runs + NEW)
            collect(f"with {NEW} new ones", sweep)
            if runs == sizes[0]:
                add_predictions(sweep)
                collect("with the bootstrap", sweep)
                verdict = json.loads((sweep.report / "verdict.json").read_text())
                assert sum(one["versus_reference"] is not None for one in verdict["methods"]) == len(METHODS) - 1
                assert not any("own error" in warning for warning in verdict["warnings"]), verdict["warnings"]


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [1000, 10_000])
