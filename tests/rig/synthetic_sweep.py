"""Finished runs without training: histories that look as real ones do, written with the library's own writer."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtlcluster.methods.catalog import method_label
from mtlcluster.sweep.folder import Sweep
from mtlcluster.sweep.history import write_history
from mtlcluster.sweep.status import Status, write_status

TASKS = [
    {"name": "left", "kind": "classification", "metrics": {"accuracy": "max"}},
    {"name": "right", "kind": "classification", "metrics": {"accuracy": "max"}},
    {"name": "even_sum", "kind": "classification", "metrics": {"accuracy": "max"}},
    {"name": "ink", "kind": "regression", "metrics": {"mae": "min"}},
]
SCALE = {"left": 2.3, "right": 2.3, "even_sum": 0.7, "ink": 40.0}


def method(**slots: Any) -> dict[str, dict[str, Any]]:
    plain = {"schedule": {"name": "all"}, "weighting": {"name": "equal"}, "gradient": {"name": "sum"}}
    return plain | {slot: {"name": value} if isinstance(value, str) else value for slot, value in slots.items()}


def make_sweep(folder: Path) -> Sweep:
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"name": folder.name}))
    return Sweep(folder)


def add_run(sweep: Sweep, name: str, history: dict[str, Any] | None, state: str = "done", error: str = "") -> None:
    run = sweep.run(name)
    run.folder.mkdir()
    write_status(run.status, Status(state=state, error=error))
    if history is not None:
        write_history(run.history, history)


def history(
    full: dict[str, dict[str, Any]],
    seed: int,
    *,
    label: str | None = None,
    varied: dict[str, Any] | None = None,
    tasks: list[dict[str, Any]] = TASKS,
    epochs: int = 20,
    points: int = 300,
    quality: float = 0.0,
    steps_per_epoch: int = 30,
    stopped_after: int | None = None,
) -> dict[str, Any]:
    """A history of plausible shape. quality: by how many per cent, roughly, the method ends better than the sum."""
    noise = np.random.default_rng(seed * 7919 + len(label or str(full)))
    config = {"job": "digits", "data": {}, "model": {}, "method": full, "seed": seed, "epochs": epochs}
    for key, value in (varied or {}).items():
        config = _with(config, key.split("."), value)
    if full["schedule"]["name"] == "single":
        tasks = [task for task in tasks if task["name"] == full["schedule"]["task"]]
    steps = np.linspace(steps_per_epoch * epochs / points, steps_per_epoch * epochs, points).round().astype(int)
    series = _training(full, tasks, steps, noise, quality)
    series |= _validation(tasks, np.arange(1, epochs + 1), noise, quality)
    if stopped_after:
        series = {key: _until(entry, stopped_after, steps_per_epoch) for key, entry in series.items()}
    mean_loss = series["validation/mean_loss"]["value"]
    best = int(mean_loss.argmin())
    for key in [key for key in series if key.startswith("validation/")]:
        value = series[key]["value"][best] * (1 + 0.01 * noise.standard_normal())
        series["test/" + key.removeprefix("validation/")] = {"epoch": np.array([best + 1]), "value": np.array([value])}
    number = {"value": "mean_loss", "direction": "min", "number": float(mean_loss[best]), "epoch": best + 1}
    return {
        "series": series,
        "measured": {
            "samples_per_second": _by_epoch(np.full(epochs, 9000.0) + noise.normal(0, 200, epochs)),
            "epoch_seconds": _by_epoch(np.full(epochs, 0.4) + noise.normal(0, 0.01, epochs)),
            "peak_memory": _by_epoch(np.full(epochs, 310.0 * 2**20)),
        },
        "info": {
            "sweep": "digits-methods",
            "run": "",
            "seed": seed,
            "method": label or method_label(full),
            "config": config,
            "varied": {"method": full, "seed": seed, **(varied or {})},
            "tasks": tasks,
            "best": number | {"step": (best + 1) * steps_per_epoch},
            "finished": True,
            "cluster": "local",
            "device": "cpu",
            "versions": {"mtlcluster": "0.1.0", "torch": "2.13.0"},
            "attempts": [{}],
            "parameters": {"trunk": 10_000, "heads": 500},
        },
    }


def _with(config: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    inner = value if len(keys) == 1 else _with(config.get(keys[0], {}), keys[1:], value)
    return {**config, keys[0]: inner}


def _until(entry: dict[str, np.ndarray], epoch: int, steps_per_epoch: int) -> dict[str, np.ndarray]:
    kept = entry["epoch"] <= epoch if "epoch" in entry else entry["step"] <= epoch * steps_per_epoch
    return {key: values[kept] for key, values in entry.items()}


def _by_epoch(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"epoch": np.arange(1, len(values) + 1), "value": values}


def _training(full, tasks, steps, noise, quality):
    where = steps / steps[-1]
    series = {}
    schedule = full["schedule"]["name"]
    for i, task in enumerate(tasks):
        name = task["name"]
        active = np.ones(len(steps))
        if schedule == "round_robin":
            active = (np.arange(len(steps)) % len(tasks) == i).astype(float)
        elif schedule == "dsg":
            stops = 0.25 + 0.12 * i + 0.05 * noise.random()
            active = np.where((where > stops) & ((where < stops + 0.3) | (where > stops + 0.45)), 0.25, 1.0)
        weight = np.ones(len(steps))
        if full["weighting"]["name"] not in ("equal", "static"):
            target = np.exp(-np.log(SCALE.get(name, 1.0)) * 0.6 + 0.1 * noise.standard_normal())
            weight = 1 + (target - 1) * (1 - np.exp(-5 * where))
        loss = SCALE.get(name, 1.0) * (0.05 + np.exp(-(4 + quality / 5) * where)) * (1 - quality / 100)
        loss = loss * np.exp(0.12 * noise.standard_normal(len(steps)))
        series[f"train/{name}/loss"] = {"step": steps, "value": np.where(active > 0, loss, np.nan)}
        series[f"weight/{name}"] = {"step": steps, "value": weight}
        series[f"active/{name}"] = {"step": steps, "value": active}
    names = [task["name"] for task in tasks]
    total = sum(np.nan_to_num(series[f"train/{n}/loss"]["value"]) * series[f"weight/{n}"]["value"] for n in names)
    rate = 1e-3 * np.where(where < 0.05, where / 0.05, 0.5 * (1 + np.cos(np.pi * where)))
    series |= {"train/total_loss": {"step": steps, "value": total}}
    series |= {f"learning_rate/{group}": {"step": steps, "value": rate} for group in ("trunk", "heads")}
    series |= {"gradient_norm": {"step": steps, "value": np.exp(-where)}}
    if full["gradient"]["name"] != "sum":
        for i, one in enumerate(tasks):
            for j, other in enumerate(tasks[i + 1 :]):
                cosine = 0.5 * np.exp(-3 * where) - 0.1 * j + 0.1 * noise.standard_normal(len(steps))
                series[f"cosine/{one['name']}/{other['name']}"] = {"step": steps, "value": cosine}
    return series


def _validation(tasks, epochs, noise, quality):
    where = epochs / epochs[-1]
    series = {}
    for task in tasks:
        name, size = task["name"], len(epochs)
        seed_effect = 1 + 0.02 * noise.standard_normal()
        falling = (0.12 + np.exp(-(5 + quality / 10) * where) + 0.08 * where**3) * (1 - quality / 100) * seed_effect
        falling = falling * np.exp(0.02 * noise.standard_normal(size))
        series[f"validation/{name}/loss"] = _by_epoch(SCALE.get(name, 1.0) * falling)
        for metric, way in task["metrics"].items():
            series[f"validation/{name}/{metric}"] = _by_epoch(1 - 0.6 * falling if way == "max" else 9 * falling)
    losses = [series[f"validation/{task['name']}/loss"]["value"] for task in tasks]
    series["validation/mean_loss"] = _by_epoch(np.mean(losses, axis=0))
    return series
