"""Sweeps for verdicts: histories on disk with given values, and searches with given choices."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rig.synthetic_sweep import TASKS, add_run, history, make_sweep, method

from mtlcluster.collect.read_histories import read_histories
from mtlcluster.collect.run_list import list_runs
from mtlcluster.collect.settings import group_runs, trained_tasks
from mtlcluster.collect.verdict.contest import make_contest
from mtlcluster.collect.verdict.result import Verdict
from mtlcluster.collect.verdict.verdict import make_verdict
from mtlcluster.sweep.choices import Candidate, Choice, write_choices
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.trials import Search, SearchedMethod, Trial, write_search

TWO = [TASKS[0], TASKS[3]]  # left: accuracy, ink: mae


def verdict_of(sweep: Sweep, samples: dict[str, float] | None = None) -> Verdict:
    """The verdict of the histories on disk, read as `collect` reads them."""
    finished, omitted = read_histories(list_runs(sweep), lambda: None)
    contest = make_contest(sweep, group_runs(finished), trained_tasks(finished), finished, omitted)
    return make_verdict(contest, samples)


def identity(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:10]


@dataclass
class Contestants:
    """A sweep whose runs are written one by one.

    Attributes:
        sweep: The sweep.
        methods: What was tried, if it is a search.
    """

    sweep: Sweep
    methods: dict[str, SearchedMethod] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path) -> "Contestants":
        return cls(make_sweep(folder))

    def run(
        self,
        stem: str,
        seed: int,
        full: dict[str, Any],
        values: dict[str, float],
        *,
        number: float = 1.0,
        backwards: int = 100,
        state: str = "done",
        varied: dict[str, Any] | None = None,
    ) -> str:
        """Writes a run and returns its identity. values: of the test data, by task/metric; validation has the same."""
        name = f"{stem}-seed={seed}"
        tasks = (
            TWO if full["schedule"]["name"] != "single" else [t for t in TWO if t["name"] == full["schedule"]["task"]]
        )
        made = history(full, seed, tasks=tasks, epochs=2, points=4, varied=varied)
        made["info"]["best"] |= {"value": "relative_loss", "number": number, "epoch": 2}
        made["info"]["backwards"] = backwards
        made["info"]["finished"] = state == "done"
        made["series"] = {k: s for k, s in made["series"].items() if not k.startswith(("test/", "validation/"))}
        for key, value in values.items():
            for data in ("validation", "test"):
                made["series"][f"{data}/{key}"] = {"epoch": np.array([2]), "value": np.array([value])}
        add_run(self.sweep, f"{name}-{identity(name)}", made if state != "running" else None, state)
        if state != "done":
            (self.sweep.run(f"{name}-{identity(name)}").config).write_text(_config(made))
        return identity(name)

    def singles(self, left: float = 0.8, ink: float = 2.0, seeds: range = range(3)) -> None:
        """Single-task training that gives these values with every seed."""
        for seed in seeds:
            for task, value in (("left/accuracy", left), ("ink/mae", ink)):
                name = task.split("/")[0]
                self.run(f"single-{name}", seed, method(schedule={"name": "single", "task": name}), {task: value})

    def plain(self, name: str, left: list[float], ink: float = 2.0) -> None:
        """A method with these accuracies, one a seed."""
        full = method() if name == "equal" else method(gradient=name)
        for seed, value in enumerate(left):
            self.run(name, seed, full, {"left/accuracy": value, "ink/mae": ink})

    def search(self, confirming: list[int], tuning: list[int] | None = None) -> None:
        """Writes trials.json of all that was tried."""
        search = Search(0, "relative_loss", "min", tuning or [0], confirming, None, ["optimizer.lr"], self.methods)
        write_search(self.sweep.trials, search)

    def tried(self, name: str, full: dict[str, Any], numbers: list[float | None], **options: Any) -> None:
        """A method with one trial for each number: None for a pruned one. values: of all its runs."""
        single = full["schedule"].get("task")
        values, backwards = options.pop("values", {"left/accuracy": 0.8, "ink/mae": 2.0}), options.pop("backwards", [])
        if single:
            values = {key: value for key, value in values.items() if key.startswith(single)}
        trials = []
        for i, number in enumerate(numbers):
            varied = {"optimizer.lr": round(0.001 * (i + 1), 6)}
            run = self.run(
                f"{name}-trial={i:02d}", 0, full, values, number=number or 9.0, varied=varied,
                state="pruned" if number is None else "done", backwards=(backwards or [100] * len(numbers))[i],
            )  # fmt: skip
            trials.append(Trial(i, varied, {0: run}))
        self.methods[name] = SearchedMethod(name, {}, ["optimizer.lr"], single, trials)

    def confirmed(
        self, name: str, full: dict[str, Any], trial: int, values: dict[int, dict[str, float]], **states: str
    ) -> None:
        """The choice of a trial, and its confirming runs by seed. states: of single runs, such as seed_3="failed"."""
        varied = self.methods[name].trials[trial].values
        runs = {}
        for seed, of_seed in values.items():
            stem = f"{name}-trial={trial:02d}"
            run = self.run(stem, seed, full, of_seed, varied=varied, state=states.get(f"seed_{seed}", "done"))
            runs[seed] = f"{stem}-seed={seed}-{run}"
        candidates = [Candidate(one.trial, 1.0) for one in self.methods[name].trials]
        write_choices(self.sweep.folder, name, [Choice(1, trial, varied, 0.0, candidates, runs)])


def _config(made: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump({"seed": made["info"]["seed"], "origin": {"varied": made["info"]["varied"]}})
