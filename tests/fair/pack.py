"""Packs a finished sweep of configs/digits-fair.yaml for the tests: `python tests/fair/pack.py RUNS/digits-fair`.

The pack holds what `collect` reads: trials.json, choices/, of each run config.yaml, status.json and its history, and
of the confirming runs their predictions. To keep it small, histories hold no series of single steps, and predictions
hold the sums of each sample that the metrics are made of. Checkpoints and logs are left out. verdict.json is what
`collect` made of the pack.
"""

import json
import shutil
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mtlcluster.collect.make_report import make_report  # noqa: E402
from mtlcluster.sweep.folder import Sweep  # noqa: E402
from mtlcluster.sweep.history import read_history, write_history  # noqa: E402
from mtlcluster.sweep.predictions import read_predictions, sums, write_predictions  # noqa: E402

PACK, VERDICT = Path(__file__).with_name("digits_fair.tar.xz"), Path(__file__).with_name("verdict.json")
NAME = "digits-fair"


def main(source: Sweep) -> None:
    confirming = {
        run
        for path in (source.folder / "choices").glob("*.json")
        for choice in json.loads(path.read_text())["choices"]
        for run in choice["runs"].values()
    }
    with tempfile.TemporaryDirectory() as folder:
        packed = Sweep(Path(folder, "configs", "runs", NAME))
        packed.folder.mkdir(parents=True)
        for name in ("trials.json", "submissions.jsonl"):
            shutil.copy(source.folder / name, packed.folder)
        shutil.copytree(source.folder / "choices", packed.folder / "choices")
        (packed.folder / "sweep.yaml").write_text(without_places(source.grid.read_text()))
        for run in source.runs():
            to = packed.run(run.name)
            to.folder.mkdir()
            shutil.copy(run.config, to.folder)
            to.status.write_text(json.dumps(json.loads(run.status.read_text()) | {"host": "somewhere"}))
            if run.history.exists():
                write_history(to.history, small_history(read_history(run.history)))
            if run.name in confirming and run.predictions.exists():
                write_small_predictions(run.predictions, to.predictions)
        with tarfile.open(PACK, "w:xz", preset=9) as archive:
            archive.add(packed.folder, NAME, filter=nameless)
        make_report(packed, print)
        shutil.copy(packed.report / "verdict.json", VERDICT)
    print(f"{PACK.name}: {PACK.stat().st_size:,} bytes")


def without_places(text: str) -> str:
    """sweep.yaml without the folders of the machine that trained the runs."""
    kept = [line for line in text.splitlines() if not line.strip().startswith(("grid: /", "root: /"))]
    return "\n".join(line for line in kept if line != "source:") + "\n"


def small_history(history: dict[str, Any]) -> dict[str, Any]:
    """The history without the series of single steps, and without the places of the machine that trained the run."""
    series = {name: entry for name, entry in history["series"].items() if "epoch" in entry}
    for attempt in history["info"]["attempts"]:
        attempt["host"] = "somewhere"
    return {**history, "series": series, "info": {**history["info"], "command": ""}}


def write_small_predictions(source: Path, target: Path) -> None:
    """Predictions of which only the sums of each sample are left."""
    found, tasks = read_predictions(source), []
    for task in found.tasks:
        assert task.targets is not None
        assert task.outputs is not None
        made = sums(task.kind, task.targets, task.outputs, task.threshold)
        assert made is not None
        tasks.append(replace(task, targets=None, outputs=None, sums=made.astype(np.float32)))
    write_predictions(target, replace(found, tasks=tasks))


def nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Sweep(Path(sys.argv[1])))
