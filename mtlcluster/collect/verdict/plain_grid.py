"""A grid without a search: every setting is a row, as it is."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtlcluster.collect.read_histories import FinishedRun, OmittedRun
from mtlcluster.collect.settings import Setting, best_epoch_rule
from mtlcluster.collect.verdict.rows import Row, Rows
from mtlcluster.collect.verdict.selection import has_ended
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.errors import UserError
from mtlcluster.sweep.folder import Sweep

Varied = tuple[str, int | None]  # what the grid varied, without the seed; the seed


def plain_rows(sweep: Sweep, settings: Sequence[Setting], omitted: Sequence[OmittedRun]) -> Rows:
    """The settings as rows; those of single-task training once for each task."""
    others: dict[str, list[tuple[int | None, OmittedRun]]] = {}
    for run in omitted:
        varied, seed = _varied(sweep, run.name)
        others.setdefault(varied, []).append((seed, run))
    way = best_epoch_rule(list(settings)) or ("", "")
    rows = []
    for setting in settings:
        for task in dict.fromkeys(run.single_task for run in setting.runs):
            runs = [run for run in setting.runs if run.single_task == task]
            known = {_without_seed(run.varied) for run in runs}
            rows.append(_row(setting, task, runs, [run for key in known for run in others.pop(key, [])]))
    for key, unknown in others.items():
        label = _stem(unknown[0][1].name)
        missing, ended = _missing([run for _, run in unknown], 0)
        rows.append(Row(label, label, _single_task(key), missing=missing, ended=ended))
    return Rows(rows, False, False, *way)


def _row(
    setting: Setting, task: str | None, runs: list[FinishedRun], others: list[tuple[int | None, OmittedRun]]
) -> Row:
    missing, ended = _missing([run for _, run in others], len(runs))
    numbers = [float(run.best["number"]) for run in runs if run.best]
    return Row(
        name=setting.label,
        method=setting.method,
        single_task=task,
        values=setting.values,
        runs={run.seed: run for run in runs},
        failed=[seed for seed, run in others if run.state == "failed" and seed is not None],
        missing=missing,
        ended=ended,
        value=float(np.mean(numbers)) if numbers else None,
        spent=[*runs, *(run for _, run in others if has_ended(run))],
    )


def _missing(others: list[OmittedRun], done: int) -> tuple[str, bool]:
    """Why the runs take no part in the comparison, and whether all have ended."""
    unended = sum(not has_ended(run) for run in others)
    if unended:
        return f"{unended} of {len(others) + done} runs have not ended", False
    return "" if done else f"none of its {len(others)} runs is done", True


def _varied(sweep: Sweep, name: str) -> Varied:
    """What the grid varied for a run without a history; its name alone if config.yaml can't be read."""
    try:
        data = YamlFile(sweep.run(name).config).data
        return _without_seed(data["origin"]["varied"]), int(data["seed"])
    except (UserError, KeyError, TypeError, ValueError):
        return json.dumps(name), None


def _without_seed(varied: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in varied.items() if k != "seed"}, sort_keys=True, default=str)


def _single_task(varied: str) -> str | None:
    """The task of a single-task baseline, from what the grid varied."""
    try:
        task = json.loads(varied)["method"]["schedule"]["task"]
    except (KeyError, TypeError):
        return None
    return task if isinstance(task, str) else None


def _stem(name: str) -> str:
    """A run's name without its identity and its seed."""
    stem = name.rpartition("-")[0] or name
    return "-".join(part for part in stem.split("-") if not part.startswith("seed=")) or name
